"""A cluster for runs: our definitions and grants, an observer, and no operator but the runs'."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dev.cluster import DEFAULT_MACHINES, Cluster, Machine
from dev.fleet import kubectl
from ollama_fleet.kube import Kube, NotFound, Object, kind_of
from ollama_fleet.kube.kinds import (
    MODEL_DISTRIBUTION,
    NAMESPACE,
    OLLAMA_NODE,
    POD,
    ROUTER,
    SERVICE_ACCOUNT,
)
from tests.cluster.fleet import OPERATOR
from tests.faults.ledger import FOLLOWED, Ledger
from tests.faults.waiting import until

_OURS = ("namespace", "crds", "serviceaccount", "clusterroles", "bindings", "leader")
_BYTES_A_SECOND = "real:100M"


@dataclass
class Grounds:
    """Where runs take place, each in a namespace of its own."""

    cluster: Cluster
    kube: Kube
    ledger: Ledger
    folder: Path
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def token(self) -> Path:
        """A kubeconfig with the rights of the installed operator."""
        return self.folder / "operator"

    def environment(self, kubeconfig: Path, namespace: str, name: str) -> dict[str, str]:
        """An operator's environment, beside this process's own."""
        path = self.cluster.directory / "environment.json"
        given: dict[str, str] = json.loads(path.read_text())
        return {
            **given,
            "KUBECONFIG": str(kubeconfig),
            "POD_NAME": name,
            "POD_NAMESPACE": namespace,
            "OLLAMA_FLEET_IMAGE": "ollama-fleet/ollama-fleet:0.1.0",
        }

    @asynccontextmanager
    async def namespace(self) -> AsyncIterator[str]:
        """A namespace that takes pods; in the end it goes with all there is."""
        name = f"fire-{next(self._numbers)}"
        await self.kube.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        )
        await until(lambda: self.ledger.get(name, SERVICE_ACCOUNT, "default"), f"{name} takes pods")
        try:
            yield name
        finally:
            await self._clear(name)

    async def apply(self, namespace: str, *objects: Object) -> None:
        """As a user would; the ledger knows of it afterwards."""
        for obj in objects:
            meta = {**obj["metadata"], "namespace": namespace}
            made = await self.kube.apply({**obj, "metadata": meta}, field_manager="tests")
            if kind_of(made) in FOLLOWED:
                await until(partial(self._knows, made), "the ledger follows")

    def _knows(self, made: Object) -> bool:
        meta = made["metadata"]
        seen = self.ledger.get(meta["namespace"], kind_of(made), meta["name"])
        version = (seen or {"metadata": {}})["metadata"].get("resourceVersion", "0")
        return int(version) >= int(meta["resourceVersion"])

    async def _clear(self, name: str) -> None:
        for kind in (MODEL_DISTRIBUTION, ROUTER, OLLAMA_NODE):
            for obj in self.ledger.objects(name, kind):
                await self.kube.delete(kind, obj["metadata"]["name"], name)
        await self.kube.delete(NAMESPACE, name)

        async def no_pods() -> bool:
            for pod in self.ledger.objects(name, POD):
                await self.kube.delete(POD, pod["metadata"]["name"], name, grace_seconds=0)
            return not self.ledger.objects(name, POD)

        await until(no_pods, f"the pods of {name} are gone")
        self.ledger.forget(name)


@asynccontextmanager
async def grounds(
    folder: Path,
    machines: Iterable[Machine] = DEFAULT_MACHINES,
    environment: Mapping[str, str] | None = None,
    manifests: Iterable[Path] = (),
) -> AsyncIterator[Grounds]:
    """Start a cluster whose files lie in `folder`, and stop it in the end.

    All of its pods have the `environment`; what is in `manifests` is there from the beginning.
    """
    if environment:
        (folder / "cluster").mkdir()
        (folder / "cluster" / "environment.json").write_text(json.dumps(environment))
    cluster = await asyncio.to_thread(
        Cluster.start, folder / "cluster", machines, models=_BYTES_A_SECOND, backoff=1.0
    )
    try:
        async with await Kube.connect(str(cluster.kubeconfig)) as kube:
            await asyncio.to_thread(_install, cluster, manifests)
            await until(partial(_served, kube), "our kinds are served")
            await asyncio.to_thread(
                cluster.token_kubeconfig, OPERATOR, OPERATOR, folder / "operator"
            )
            async with Ledger(kube) as ledger:
                yield Grounds(cluster, kube, ledger, folder)
    finally:
        await asyncio.to_thread(cluster.stop)


def _install(cluster: Cluster, manifests: Iterable[Path]) -> None:
    """What `kubectl apply -k manifests/` does, but for the operator itself; and the manifests."""
    for path in (*manifests, *(Path(f"manifests/{name}.yaml") for name in _OURS)):
        kubectl(cluster, "apply", "--server-side", "-f", str(path))


async def _served(kube: Kube) -> bool:
    try:
        for kind in (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER):
            await kube.list(kind)
    except NotFound:
        return False
    return True
