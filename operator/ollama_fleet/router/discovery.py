"""Which servers there are, kept up to date by watches of the Router, OllamaNodes and pods."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ollama_fleet.api.access import SecretRefs
from ollama_fleet.api.ollamanode import PORT, OllamaNodeSpec
from ollama_fleet.api.router import RouterSpec
from ollama_fleet.api.servers import (
    DRAINING_LABEL,
    OLLAMANODE_LABEL,
    ROUTER_LABEL,
    is_meant,
    server_name,
)
from ollama_fleet.kube.client import Kube
from ollama_fleet.kube.kinds import OLLAMA_NODE, POD, ROUTER, Kind, Object
from ollama_fleet.kube.watch import WatchEvent
from ollama_fleet.router.config import ConfigError, endpoint_of, settings_of
from ollama_fleet.router.ownsecrets import OwnSecrets
from ollama_fleet.router.secrets import INTERVAL, Secrets
from ollama_fleet.router.server import Router
from ollama_fleet.router.snapshot import Endpoint, State

log = logging.getLogger(__name__)


Place = tuple[Endpoint, SecretRefs]
"""A server, and the Secrets it is reached by."""


class Discovery:
    """Feeds a router from Kubernetes. While the API server is away, the last state stands."""

    def __init__(
        self,
        kube: Kube,
        router: Router,
        namespace: str,
        name: str,
        secrets_interval: float = INTERVAL,
    ) -> None:
        self._kube = kube
        self._secrets = Secrets(kube, namespace, self._apply, secrets_interval)
        self._own_secrets = OwnSecrets(kube, namespace, router, self._apply, secrets_interval)
        self._router = router
        self._namespace = namespace
        self._name = name
        self._routers: dict[str, Object] = {}
        self._ollamanodes: dict[str, Object] = {}
        self._pods: dict[str, Object] = {}
        self._pods_of: dict[str, dict[str, Object]] = {}
        """By OllamaNode, and by name."""
        self._found: dict[str, list[Place]] = {}
        """The servers of each OllamaNode that are made of what it and its pods are now."""
        self._unsynced = {ROUTER.kind, OLLAMA_NODE.kind, POD.kind}
        self._generation: object = None
        self._spec: Object = {}
        router.waiting_for = "the API server"

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(ROUTER, self._routers))
            group.create_task(self._watch(OLLAMA_NODE, self._ollamanodes))
            group.create_task(self._watch(POD, self._pods, OLLAMANODE_LABEL))
            group.create_task(self._watch_replicas())
            group.create_task(self._secrets.run())
            group.create_task(self._own_secrets.run())

    async def _watch(self, kind: Kind, store: dict[str, Object], label: str | None = None) -> None:
        async for event in self._kube.watch(kind, self._namespace, label):
            if event.type == "SYNCED":
                self._unsynced.discard(kind.kind)
            else:
                self._note(kind, store, event)
            self._apply()

    def _note(self, kind: Kind, store: dict[str, Object], event: WatchEvent) -> None:
        """Keep what a watch tells, and forget what was made of what was before."""
        name = event.object["metadata"]["name"]
        before = store.pop(name, None)
        now = None if event.type == "DELETED" else event.object
        if now is not None:
            store[name] = now
        if kind == OLLAMA_NODE:
            self._found.pop(name, None)
            if before is not None and now is not None:
                self._ask_again(_told(before), _told(now))
        if kind == POD:
            for pod in filter(None, (before, now)):
                ollamanode = pod["metadata"]["labels"][OLLAMANODE_LABEL]
                pods = self._pods_of.setdefault(ollamanode, {})
                pods.pop(name, None)
                if pod is now:
                    pods[name] = now
                self._found.pop(ollamanode, None)
                if not pods:
                    del self._pods_of[ollamanode]

    async def _watch_replicas(self) -> None:
        """Follow the other pods of this Router. Nothing waits for them: without, it is alone."""
        found: dict[str, tuple[str, int]] = {}
        async for event in self._kube.watch(POD, self._namespace, f"{ROUTER_LABEL}={self._name}"):
            if event.type == "SYNCED":
                continue
            name = event.object["metadata"]["name"]
            address = None if event.type == "DELETED" else _metrics_address(event.object)
            if address is None:
                found.pop(name, None)
            else:
                found[name] = address
            self._router.replicas.want(found.values())

    def _ask_again(self, before: Mapping[str, object], now: Mapping[str, object]) -> None:
        """Probe at once whoever has something new, so that a model is routed to as it arrives."""
        for name, told in now.items():
            if before.get(name) != told:
                self._router.prober.poke(name)

    def _apply(self) -> None:
        if self._unsynced:
            return
        own = self._routers.get(self._name)
        if own is None:
            # Gone: our pods go too, and until then the last state serves.
            if self._generation is None:
                self._router.waiting_for = f"Router {self._namespace}/{self._name}"
            return
        try:
            self._configure(own)
        except ConfigError as error:
            log.error("Router %s: spec.%s; the last good settings stay", self._name, error)
        if self._generation is None:
            return
        found = self._endpoints()
        self._secrets.want(refs for _, refs in found)
        if self._router.waiting_for and not self._secrets.settled:
            self._router.waiting_for = "the Secrets of its servers"
            return
        self._router.waiting_for = self._own_secrets.waiting_for
        self._router.fleet.want(self._reachable(found))

    def _configure(self, own: Object) -> None:
        generation = own["metadata"].get("generation")
        if generation == self._generation:
            return
        spec = own.get("spec") or {}
        settings = settings_of(spec)
        self._router.configure(settings)
        self._own_secrets.want(settings.keys_secret, settings.tls_secret)
        self._generation, self._spec = generation, spec

    def _reachable(self, found: Iterable[Place]) -> Iterator[Endpoint]:
        """The servers with what their Secrets hold, without those that these are missing of."""
        for endpoint, refs in found:
            if not refs.names:
                yield endpoint
                continue
            access = self._secrets.access(refs)
            if access is not None:
                headers = dict(endpoint.headers) | {
                    name.lower().encode(): value.encode() for name, value in access.headers
                }
                yield replace(
                    endpoint,
                    headers=tuple(headers.items()),
                    ca=access.ca,
                    secret=refs.headers or "",
                )

    def _endpoints(self) -> list[Place]:
        """Every server, and the Secrets it is reached by."""
        selected = _selection(self._spec)
        found: dict[str, Place] = {}
        for name, obj in self._ollamanodes.items():
            if not selected(name, obj["metadata"].get("labels") or {}):
                continue
            if name not in self._found:
                self._found[name] = self._servers(name, obj)
            found |= {place[0].name: place for place in self._found[name]}
        settings = self._router.settings
        for endpoint, refs in zip(settings.backends, settings.backend_secrets, strict=True):
            found[endpoint.name] = (endpoint, refs)
        return list(found.values())

    def _servers(self, name: str, obj: Object) -> list[Place]:
        """The servers of one OllamaNode."""
        try:
            spec = OllamaNodeSpec.model_validate(obj["spec"])
        except ValidationError:
            log.error("OllamaNode %s cannot be read; its servers are left out", name)
            return []
        endpoints = self._external(name, spec) if spec.external else self._own(name, spec)
        refs = spec.external.secrets if spec.external else SecretRefs()
        pins = _pins(obj)
        return [(replace(one, pins=pins.get(one.name, pins[""])), refs) for one in endpoints]

    def _own(self, ollamanode: str, spec: OllamaNodeSpec) -> Iterator[Endpoint]:
        for pod in self._pods_of.get(ollamanode, {}).values():
            meta, status = pod["metadata"], pod.get("status") or {}
            if not status.get("podIP"):
                continue
            machine = pod["spec"].get("nodeName")
            yield Endpoint(
                name=server_name(ollamanode, meta["name"], machine, spec.per_node is not None),
                host=status["podIP"],
                port=PORT,
                weight=spec.weight,
                parallel=spec.server.parallel,
                held=_held(pod, spec),
            )

    def _external(self, ollamanode: str, spec: OllamaNodeSpec) -> Iterator[Endpoint]:
        assert spec.external is not None
        try:
            yield endpoint_of(
                spec.external.url,
                "external.url",
                name=ollamanode,
                weight=spec.weight,
                parallel=spec.server.parallel,
                held=State.DRAINING if spec.cordoned else None,
            )
        except ConfigError as error:
            log.error("OllamaNode %s: spec.%s", ollamanode, error)


def _metrics_address(pod: Object) -> tuple[str, int] | None:
    """Where a router's pod tells its counts; None while nowhere."""
    status = pod.get("status") or {}
    host = status.get("podIP")
    if not host or status.get("phase") in ("Succeeded", "Failed"):
        return None
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == "metrics":
                return host, port["containerPort"]
    return None


def _told(ollamanode: Object) -> dict[str, object]:
    """What the operator last told of each server, but for the time."""
    servers = (ollamanode.get("status") or {}).get("servers") or ()
    return {
        one["name"]: {key: value for key, value in one.items() if key != "lastSeen"}
        for one in servers
    }


def _pins(ollamanode: Object) -> dict[str, tuple[tuple[str, str], ...]]:
    """The pins of each server; under "" those of every server that is not named."""
    told = (ollamanode.get("status") or {}).get("pins") or ()
    everywhere = tuple((one["model"], one["digest"]) for one in told if "servers" not in one)
    found = {"": everywhere}
    for one in told:
        for name in one.get("servers") or ():
            found[name] = (*found.get(name, everywhere), (one["model"], one["digest"]))
    return found


def _selection(router_spec: Mapping[str, Any]) -> Callable[[str, Mapping[str, str]], bool]:
    """Whether an OllamaNode of this name and with these labels is selected; none given: all."""
    select = RouterSpec.model_validate(router_spec).select

    def selected(name: str, labels: Mapping[str, str]) -> bool:
        return is_meant(select.ollama_nodes, select.selector, name, labels)

    return selected


def _held(pod: Object, spec: OllamaNodeSpec) -> State | None:
    """The state Kubernetes imposes on a server, whatever the server itself says.

    Pods of a machine whose kubelet is not heard are called not Ready, all at once, though they may
    serve: what the kubelet said last of their containers stands, and probes tell the rest.
    """
    meta = pod["metadata"]
    if meta.get("deletionTimestamp") or DRAINING_LABEL in meta["labels"] or spec.cordoned:
        return State.DRAINING
    said = {one["type"]: one["status"] for one in (pod.get("status") or {}).get("conditions") or ()}
    ready = said.get("ContainersReady", said.get("Ready"))
    return None if ready == "True" else State.STARTING
