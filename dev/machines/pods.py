"""A pod on a simulated machine: its containers from first to last, and what the API is told."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from dev.cluster.kubeconfig import write_kubeconfig
from dev.machines import devices, podstatus
from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.containers import Backoff, Container, execute, now
from dev.machines.environment import WaitingError, expand, variables
from dev.machines.events import Recorder
from dev.machines.images import Place, Program, resolve
from dev.machines.machine import Machine
from dev.machines.probes import Target
from dev.machines.tasks import spawn
from dev.machines.volumes import SERVICE_ACCOUNT, Volumes

_RETRY_SECONDS = 0.5
_REFRESH_SECONDS = 5.0
_DEFAULT_GRACE = 30.0


@dataclass(frozen=True)
class Site:
    """What all pods of a cluster share: the API, the cluster's directory, the probes' client."""

    api: ApiServer
    url: str
    directory: Path
    client: httpx2.AsyncClient
    recorder: Recorder
    backoff: Backoff
    address: str


@dataclass
class Pod:
    """One pod bound to a machine; `object` is the API's latest word on it."""

    site: Site
    machine: Machine
    object: Object
    address: str
    initial: list[Container] = field(default_factory=list)
    main: list[Container] = field(default_factory=list)
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _since: str = field(default_factory=now)
    _sent: Object = field(default_factory=dict)
    _ending: asyncio.Task[None] | None = None
    _grace: float = float("inf")
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        meta, spec = self.object["metadata"], self.object["spec"]
        self.uid = str(meta["uid"])
        self.name, self.namespace = str(meta["name"]), str(meta["namespace"])
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.folder = self.site.directory / "pods" / f"{self.namespace}_{self.name}"
        self.policy = str(spec.get("restartPolicy") or "Always")
        disk = self.site.directory / "disks" / self.machine.name
        self.volumes = Volumes(self.site.api, self.folder / "volumes", disk)
        for entry in spec.get("initContainers") or []:
            kind = "sidecar" if entry.get("restartPolicy") == "Always" else "init"
            self.initial.append(self._container(entry, kind))
        self.main = [self._container(entry, "main") for entry in spec["containers"]]
        for each in self.main if not self.initial else []:
            each.state = {"waiting": {"reason": "ContainerCreating"}}

    def start(self) -> None:
        """Begin to run it, and to report."""
        self.object.setdefault("status", {})
        self.object["status"] |= {"podIP": self.address, "hostIP": self.site.address}
        self._tasks = [spawn(self._run()), spawn(self._report())]
        self._dirty.set()
        self._heard.set()

    def hear(self, heard: bool) -> None:
        """Whether its machine's kubelet tells what becomes of it."""
        (self._heard.set if heard else self._heard.clear)()

    def update(self, latest: Object) -> None:
        """Take note of a change in the API; a deletion starts the pod's end."""
        # What we know of its address must not be lost to an event from before our first report.
        status = {"podIP": self.address, "hostIP": self.site.address}
        self.object = {**latest, "status": {**status, **latest.get("status", {})}}
        self._dirty.set()
        if not latest["metadata"].get("deletionTimestamp"):
            return
        told = latest["metadata"].get("deletionGracePeriodSeconds")
        grace = _DEFAULT_GRACE if told is None else float(told)
        # As a kubelet does: who deletes it again with less time cuts its hooks short.
        if grace < self._grace and not (self._ending and self._ending.done()):
            if self._ending:
                self._ending.cancel()
            self._grace = grace
            self._ending = spawn(self._end(grace))

    async def kill(self) -> None:
        """End all of it at once and report nothing."""
        for task in [*self._tasks, *([self._ending] if self._ending else [])]:
            task.cancel()
        for each in [*self.main, *self.initial]:
            each.kill()
        for each in [*self.main, *self.initial]:
            if each.process:
                await each.process.wait()
        self._clean()

    @property
    def ready(self) -> bool:
        """Whether all its containers are ready."""
        return all(each.ready for each in self.main)

    def ports(self) -> dict[str, int]:
        """Its named ports."""
        containers = [*self.object["spec"]["containers"]]
        return {
            port["name"]: int(port["containerPort"])
            for container in containers
            for port in container.get("ports") or []
            if port.get("name")
        }

    def _container(self, spec: Object, kind: str) -> Container:
        grace = self.object["spec"].get("terminationGracePeriodSeconds")
        return Container(
            spec=spec,
            kind=kind,
            policy=self.policy,
            grace=_DEFAULT_GRACE if grace is None else float(grace),
            folder=self.folder,
            backoff=self.site.backoff,
            prepare=self._prepare,
            target=self._target,
            changed=self._dirty.set,
            event=lambda kind, reason, message: self.site.recorder.record(
                self.object, kind, reason, message, self.machine.name
            ),
        )

    async def _run(self) -> None:
        """Volumes, then the init containers in order, then all others at once."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        await self._fill()
        refreshing = asyncio.create_task(self._refresh())
        sidecars: list[asyncio.Task[None]] = []
        try:
            for each in self.initial:
                task = asyncio.create_task(each.run())
                if each.kind == "init":
                    await task
                    if each.exit_code != 0:
                        return
                else:
                    sidecars.append(task)
                    await each.has_started.wait()
            await asyncio.gather(*(each.run() for each in self.main))
            for each in reversed(self.initial):
                await each.stop()
            await asyncio.gather(*sidecars)
        finally:
            refreshing.cancel()
            for task in sidecars:
                task.cancel()
            self._dirty.set()

    async def _fill(self) -> None:
        """Make the volumes, saying why not while something is missing."""
        complaint = ""
        while True:
            try:
                await self.volumes.fill(self.object)
                return
            except (WaitingError, ApiError, httpx2.HTTPError) as error:
                if str(error) != complaint:
                    complaint = str(error)
                    self.site.recorder.record(
                        self.object, "Warning", "FailedMount", complaint, self.machine.name
                    )
                await asyncio.sleep(_RETRY_SECONDS)

    async def _refresh(self) -> None:
        """Keep config maps, secrets and tokens up to date in their volumes."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            # What cannot be read now keeps its last content, as on a real machine.
            with suppress(WaitingError, ApiError, httpx2.HTTPError):
                await self.volumes.fill(self.object)

    async def _prepare(self, spec: Object) -> Program:
        """What to run for a container, with its whole environment."""
        declared = await self._declared(spec)
        mounts = self.volumes.mounts(spec, declared)
        home = _fresh(self.folder / "home" / spec["name"])
        translated = {
            "HOSTNAME": self.name,
            **_extra(self.site.directory / "environment.json"),
            **{name: mounts.translate(value) for name, value in declared.items()},
        }
        account = mounts.folders.get(SERVICE_ACCOUNT)
        if account and "KUBECONFIG" not in translated:
            translated["KUBECONFIG"] = str(
                write_kubeconfig(
                    self.folder / "kubeconfig",
                    self.site.url,
                    account / "ca.crt",
                    user={"tokenFile": str(account / "token")},
                    namespace=self.namespace,
                )
            )
        line, arguments = (
            [mounts.translate(expand(text, declared)) for text in spec.get(key) or []]
            for key in ("command", "args")
        )
        place = Place(self.address, home, mounts, await self._gpu_memory(spec))
        return resolve(spec["image"], line, arguments, translated, place)

    async def _declared(self, spec: Object) -> dict[str, str]:
        """The environment a container asks for."""
        return await variables(self.site.api, self.object, spec, self.machine.capacity())

    async def _gpu_memory(self, spec: Object) -> int:
        """The memory of the GPUs granted to a container, in bytes."""
        resources = spec.get("resources") or {}
        granted = sum(
            int(amount) * self.machine.memory_of(resource)
            for resource, amount in (resources.get("limits") or {}).items()
            if "/" in resource
        )
        names = {claim["name"] for claim in resources.get("claims") or []}
        made = self.object["status"].get("resourceClaimStatuses") or []
        claims = [one["resourceClaimName"] for one in made if one["name"] in names]
        return granted + await devices.granted(self.site.api, self.namespace, claims)

    def _target(self, spec: Object, program: Program) -> Target:
        log = self.folder / f"{spec['name']}.exec.log"

        async def run(command: list[str], timeout: float) -> tuple[bool, str]:
            mounts = self.volumes.mounts(spec, await self._declared(spec))
            return await execute(program, [mounts.translate(t) for t in command], log, timeout)

        return Target(self.address, self.ports(), run, self.site.client)

    async def _end(self, grace: float) -> None:
        """Stop everything within the grace period, report the end, remove the pod."""
        for kind in (self.main, list(reversed(self.initial))):
            await asyncio.gather(*(each.stop(grace) for each in kind))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        options: dict[str, Any] = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        while True:
            with suppress(ApiError, httpx2.HTTPError):
                await self._send(self._status())
            try:
                await self.site.api.delete(self.path, options)
                break
            except ApiError as error:
                if error.status == 409:
                    break
                await asyncio.sleep(_RETRY_SECONDS)
            except httpx2.HTTPError:
                await asyncio.sleep(_RETRY_SECONDS)
        self._clean()

    def _clean(self) -> None:
        """Remove its folder but for the logs, which are there to be read afterwards."""
        if not self.folder.exists():
            return
        for left in self.folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            elif left.suffix != ".log":
                left.unlink(missing_ok=True)

    async def _report(self) -> None:
        """Tell the API whenever the status differs from what it was told last."""
        while True:
            await self._dirty.wait()
            await self._heard.wait()
            self._dirty.clear()
            status = self._status()
            if _lasting(status) == _lasting(self._sent) and not self._contradicted(status):
                continue
            try:
                await self._send(status)
                self._sent = status
            except (ApiError, httpx2.HTTPError) as error:
                if isinstance(error, ApiError) and error.status in (404, 409):
                    continue
                await asyncio.sleep(_RETRY_SECONDS)
                self._dirty.set()

    def _contradicted(self, status: Object) -> bool:
        """Whether the API says otherwise: Kubernetes calls pods of an absent machine not ready."""
        said = {one["type"]: one["status"] for one in self.object["status"].get("conditions") or []}
        return any(said.get(one["type"]) != one["status"] for one in status["conditions"])

    async def _send(self, status: Object) -> None:
        await self.site.api.patch(
            f"{self.path}/status", {"metadata": {"uid": self.uid}, "status": status}
        )

    def _status(self) -> Object:
        reached = podstatus.phase(self.policy, self.initial, self.main)
        status: Object = {
            "phase": reached,
            "conditions": podstatus.conditions(self.object, reached, self.initial, self.main),
            "hostIP": self.site.address,
            "hostIPs": [{"ip": self.site.address}],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self._since,
            "containerStatuses": [each.status() for each in self.main],
        }
        if self.initial:
            status["initContainerStatuses"] = [each.status() for each in self.initial]
        return status


def _lasting(status: Object) -> Object:
    """A status without the times that are made up anew for each comparison."""
    return {
        **status,
        "conditions": [
            {key: value for key, value in each.items() if key != "lastTransitionTime"}
            for each in status.get("conditions") or []
        ],
    }


def _fresh(home: Path) -> Path:
    """An empty home: what a container writes outside its volumes is lost when it restarts."""
    shutil.rmtree(home, ignore_errors=True)
    (home / "tmp").mkdir(parents=True)
    return home


def _extra(path: Path) -> dict[str, str]:
    """The environment that every pod of this cluster is given, if there is one."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise WaitingError("CreateContainerConfigError", f"{path}: {error}") from error
    return {str(name): str(value) for name, value in found.items()}
