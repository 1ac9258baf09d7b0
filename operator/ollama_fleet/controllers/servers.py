"""The servers of a namespace, put together once for everyone who plans with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import is_

from pydantic import ValidationError

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.controllers.affected import gist
from ollama_fleet.controllers.context import Context
from ollama_fleet.controllers.fleet import devices, machines, pods_of
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.stores import Stores
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import OLLAMA_NODE
from ollama_fleet.plan.servers import Probe, Server, servers_of

Means = Callable[[str, Mapping[str, str]], bool]
"""Whether somebody means the OllamaNode of that name and those labels."""

LASTING = timedelta(seconds=10)
"""For how long they stand though nothing has changed but the time. Where that is news, the status
of their OllamaNode tells it, and they are put together again."""


@dataclass(frozen=True)
class _Kept:
    of: tuple[object, ...]
    """The OllamaNode, by what is equal where it is the same to its servers."""
    made_of: tuple[object, ...]
    seen: Mapping[str, Probe]
    at: datetime
    servers: list[Server]

    def standing(self, seen: Mapping[str, Probe]) -> dict[str, Server]:
        """The servers, by their pod's name, that have said nothing else since."""
        return {
            one.pod["metadata"]["name"] if one.pod else "": one
            for one in self.servers
            if one.url is None or seen.get(one.url) is self.seen.get(one.url)
        }


class Servers:
    """Servers by OllamaNode. As many plan with the same ones, and one pod's change concerns one
    OllamaNode of many, they are put together again only where something about them is another."""

    def __init__(self, context: Context, probes: Probes, stores: Stores) -> None:
        self._context = context
        self._probes = probes
        self._stores = stores
        self._kept: dict[tuple[str, str], _Kept] = {}

    def of(self, namespace: str, means: Means) -> list[Server]:
        """The servers of the OllamaNodes that somebody means; those that cannot be read have
        none."""
        known = machines(self._context)
        return [
            server
            for node in self._context.store.list(OLLAMA_NODE, namespace)
            if means(node["metadata"]["name"], node["metadata"].get("labels") or {})
            for server in self._of(node, known)
        ]

    def forget(self, namespace: str, ollamanode: str) -> None:
        """An OllamaNode is gone."""
        self._kept.pop((namespace, ollamanode), None)

    def _of(self, node: Object, known: Mapping[str, Object]) -> list[Server]:
        context, meta = self._context, node["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        pods, seen = pods_of(context, namespace, name), self._probes.seen(f"{namespace}/{name}")
        gpus, disks, now = devices(context), self._stores.of(namespace), context.clock.now()
        places = [pod["spec"].get("nodeName") for pod in pods]
        # only who waits for a machine looks at all of them
        around = known.values() if None in places else map(known.get, filter(None, places))
        is_now = (meta.get("uid"), meta.get("generation"), gist(node))
        made_of = (gpus, disks, *pods, *around)
        kept, at, standing = self._kept.get((namespace, name)), now, dict[str, Server]()
        if (
            kept is not None
            and abs(now - kept.at) < LASTING
            and kept.of == is_now
            and _same(kept.made_of, made_of)
        ):
            at, standing = kept.at, kept.standing(seen)
            if len(standing) == len(kept.servers):
                return kept.servers
        try:
            spec = OllamaNodeSpec.model_validate(node["spec"])
        except ValidationError:
            return []
        servers = servers_of(
            node, spec, pods, known, seen, now, devices=gpus, disks=disks, standing=standing
        )
        self._kept[namespace, name] = _Kept(is_now, made_of, seen, at, servers)
        return servers


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))
