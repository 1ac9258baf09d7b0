"""One container of a pod: started, probed, restarted with back-off, stopped with grace."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dev.cluster.processes import Process
from dev.machines.apiserver import Object
from dev.machines.environment import WaitingError
from dev.machines.images import Program
from dev.machines.probes import Target, watch
from dev.machines.tasks import spawn

_RUNS_WELL = 600.0  # seconds after which an earlier crash is forgotten
_MESSAGE_BYTES = 2048
_RETRY_SECONDS = 2.0
_NOT_STARTED = 128  # the exit code of a container whose program cannot be started
_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff")


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Backoff:
    """Seconds before a restart: `first`, then twice as long each time, `cap` at most."""

    first: float = 10.0
    cap: float = 300.0

    def after(self, failures: int) -> float:
        """The pause before the start that follows this many failures in a row."""
        return 0.0 if failures < 2 else min(self.cap, self.first * 2.0 ** min(failures - 2, 20))


@dataclass
class Container:
    """A container's spec and what has become of it; `changed` is called after every change.

    `prepare` gives the program to run and `target` what its probes are pointed at. `kind` is
    "main", "init" (must succeed before the next) or "sidecar" (an init container that stays).
    """

    spec: Object
    kind: str
    policy: str
    grace: float
    folder: Path
    backoff: Backoff
    prepare: Callable[[Object], Awaitable[Program]]
    target: Callable[[Object, Program], Target]
    changed: Callable[[], None]
    event: Callable[[str, str, str], None]

    state: Object = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last_state: Object = field(default_factory=dict)
    restarts: int = 0
    has_started: asyncio.Event = field(default_factory=asyncio.Event)
    ready: bool = False
    killed_for_memory: bool = False
    process: Process | None = None
    _program: Program | None = None
    _stopping: bool = False
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """The container's name in its pod."""
        return str(self.spec["name"])

    @property
    def log(self) -> Path:
        """What it wrote since it was last started."""
        return self.folder / f"{self.name}.log"

    @property
    def previous_log(self) -> Path:
        """What it wrote before its last restart."""
        return self.folder / f"{self.name}.previous.log"

    @property
    def exit_code(self) -> int | None:
        """How it ended, or None while it has not."""
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    def status(self) -> Object:
        """Its entry in the pod's containerStatuses."""
        status: Object = {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": "",
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.ready,
            "started": self.has_started.is_set(),
            "restartCount": self.restarts,
        }
        if self.process:
            status["containerID"] = f"process://{self.process.pid}"
            status["imageID"] = f"process://{self.spec['image']}"
        return status

    async def run(self) -> None:
        """Run it, again and again as its restart policy has it, until it ends for good."""
        failures = 0
        while not self._stopping:
            begun = time.monotonic()
            code = await self._live() if await self._start() else _NOT_STARTED
            if self._stopping or not self._restarts_after(code):
                return
            failures = 1 if time.monotonic() - begun > _RUNS_WELL else failures + 1
            await self._back_off(failures, self.backoff.after(failures))
            self.restarts += 1

    async def stop(self, grace: float | None = None) -> None:
        """End it for good: preStop and TERM within the grace period, then KILL its group."""
        self._stopping = True
        self._stopped.set()
        await self._end(self.grace if grace is None else grace)

    def kill(self) -> None:
        """End it for good, at once."""
        self._stopping = True
        self._stopped.set()
        if self.process:
            self.process.kill_group()

    def _restarts_after(self, code: int) -> bool:
        if self.kind == "sidecar" or (self.kind == "main" and self.policy == "Always"):
            return True
        return code != 0 and self.policy != "Never"

    async def _start(self) -> bool:
        """Start the process, once there is a program for it; False if that fails."""
        attempt, pause = 0, _RETRY_SECONDS
        while not self._stopping:
            try:
                self._program = await self.prepare(self.spec)
                break
            except WaitingError as error:
                reason, pause = error.reason, _RETRY_SECONDS
                if reason in _PULL_REASONS:
                    reason = _PULL_REASONS[min(attempt % 2, 1)]
                    pause = max(_RETRY_SECONDS, self.backoff.after(attempt // 2 + 2))
                if attempt == 0:
                    self.event("Warning", "Failed", f"Error: {error}")
                self._waits(reason, str(error))
                attempt += 1
                # ErrImagePull is shown for a moment, ImagePullBackOff for the pause.
                await self._pause(_RETRY_SECONDS if reason == "ErrImagePull" else pause)
        if self._stopping or self._program is None:
            return False
        if self.log.exists():
            self.log.rename(self.previous_log)
        try:
            home = Path(self._program.environment["HOME"])
            self.process = Process(
                self._program.command,
                environment=self._program.environment,
                directory=home,
                log=self.log,
            )
        except OSError as error:
            self.log.touch()
            message = f'exec: "{self._program.command[0]}": {error.strerror}'
            self._ends(_NOT_STARTED, "StartError", message, now())
            self.event("Warning", "Failed", f"Error: {message}")
            return False
        # whole as soon as it is there
        noted = self.folder / f"{self.name}.pid.new"
        noted.write_text(str(self.process.pid))
        noted.rename(self.folder / f"{self.name}.pid")
        self.event("Normal", "Started", f"Container started: {self.name}")
        return True

    async def _live(self) -> int:
        """From a started process to its end; returns the exit code."""
        assert self.process is not None
        assert self._program is not None
        begun = now()
        self.killed_for_memory = False
        self.state = {"running": {"startedAt": begun}}
        if "startupProbe" not in self.spec:
            self._starts()
        self.changed()
        target = self.target(self.spec, self._program)
        watching = spawn(self._probe(target))
        try:
            code = await self.process.wait()
        finally:
            watching.cancel()
            # The first process is the container: what it started ends with it.
            self.process.kill_group()
            (self.folder / f"{self.name}.pid").unlink(missing_ok=True)
        reason = "Completed" if code == 0 else "Error"
        if self.killed_for_memory:
            reason = "OOMKilled"
        self._ends(code if code >= 0 else 128 - code, reason, self._message(code), begun)
        return code

    def _starts(self) -> None:
        """It counts as started, and as ready unless a probe has to say so."""
        self.has_started.set()
        self.ready = "readinessProbe" not in self.spec

    def _waits(self, reason: str, message: str) -> None:
        if "terminated" in self.state:
            self.last_state = self.state
        self.state = {"waiting": {"reason": reason, "message": message}}
        self.has_started.clear()
        self.ready = False
        self.changed()

    def _ends(self, code: int, reason: str, message: str, begun: str) -> None:
        ended: dict[str, Any] = {
            "exitCode": code,
            "reason": reason,
            "startedAt": begun,
            "finishedAt": now(),
        }
        if code > 128 and reason != "StartError":
            ended["signal"] = code - 128
        if message:
            ended["message"] = message
        self.state = {"terminated": ended}
        self.has_started.clear()
        # An init container counts as ready once it has succeeded.
        self.ready = self.kind == "init" and code == 0
        self.changed()

    def _message(self, code: int) -> str:
        """The end of its log, if it failed and asks for that."""
        if code == 0 or self.spec.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return ""
        return _end_of(self.log)

    async def _back_off(self, failures: int, pause: float) -> None:
        if failures >= 2:
            message = f"back-off {pause:g}s restarting failed container={self.name}"
            self._waits("CrashLoopBackOff", message)
            self.event("Warning", "BackOff", f"Back-off restarting failed container {self.name}")
        else:
            self.last_state = self.state
        await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _probe(self, target: Target) -> None:
        """All probes of one life of the container; readiness and liveness wait for startup."""
        if "startupProbe" in self.spec:
            begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            async def on_startup(healthy: bool, why: str) -> None:
                if not healthy:
                    await self._unhealthy("startup", self.spec["startupProbe"], why)
                elif not begun.done():
                    begun.set_result(None)

            probing = asyncio.create_task(watch(self.spec["startupProbe"], target, on_startup))
            try:
                await begun
            finally:
                probing.cancel()
            self._starts()
            self.changed()

        async def on_liveness(healthy: bool, why: str) -> None:
            if not healthy:
                await self._unhealthy("liveness", self.spec["livenessProbe"], why)

        async def on_readiness(healthy: bool, why: str) -> None:
            if healthy is not self.ready:
                self.ready = healthy
                self.changed()
            if not healthy:
                self.event("Warning", "Unhealthy", f"Readiness probe failed: {why}")

        async with asyncio.TaskGroup() as probes:
            for key, report in (("livenessProbe", on_liveness), ("readinessProbe", on_readiness)):
                if key in self.spec:
                    probes.create_task(watch(self.spec[key], target, report))

    async def _unhealthy(self, kind: str, probe: Object, why: str) -> None:
        """A failed liveness or startup probe: end this life; the restart policy does the rest."""
        self.event("Warning", "Unhealthy", f"{kind.capitalize()} probe failed: {why}")
        self.event("Normal", "Killing", f"Container {self.name} failed {kind} probe")
        grace = probe.get("terminationGracePeriodSeconds")
        await self._end(self.grace if grace is None else float(grace))

    async def _end(self, grace: float) -> None:
        """End the running process, if there is one."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        self.ready = False
        deadline = time.monotonic() + grace
        hook = (self.spec.get("lifecycle") or {}).get("preStop")
        if hook and grace > 0 and self._program:
            await self.target(self.spec, self._program).attempt(hook, grace)
        number = (self.spec.get("lifecycle") or {}).get("stopSignal") or "SIGTERM"
        process.send(signal.Signals[number])
        # As a kubelet does, leave two seconds even if the hook has used up the grace period.
        left = max(2.0 if hook else 0.0, deadline - time.monotonic())
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), left)
        process.kill_group()
        await process.wait()


async def execute(
    program: Program, command: list[str], log: Path, timeout: float
) -> tuple[bool, str]:
    """Run a command in a container's environment: (succeeded, the last of its output)."""
    _empty(log)
    try:
        process = Process(
            command,
            environment=program.environment,
            directory=Path(program.environment["HOME"]),
            log=log,
        )
    except OSError as error:
        return False, f"{command[0]}: {os.strerror(error.errno or 0)}"
    try:
        async with asyncio.timeout(timeout):
            code = await process.wait()
    except TimeoutError:
        return False, f"no answer within {timeout:g} s"
    finally:
        process.kill_group()
    return code == 0, _end_of(log).strip() or f"exit code {code}"


def _empty(log: Path) -> None:
    log.write_bytes(b"")


def _end_of(log: Path) -> str:
    return log.read_bytes()[-_MESSAGE_BYTES:].decode(errors="replace")
