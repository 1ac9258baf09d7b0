"""What an agent does: waits for Ollama, registers, reports; again wherever it was interrupted."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ollama_fleet.agent import detect
from ollama_fleet.agent.coordinator import (
    Coordinator,
    CoordinatorError,
    Machine,
    Report,
    UnknownAgent,
)
from ollama_fleet.agent.gpus import Gpus, registered
from ollama_fleet.agent.inflight import in_flight
from ollama_fleet.agent.machine import Load, disk, models_folder
from ollama_fleet.agent.settings import Settings
from ollama_fleet.ollama.client import OllamaClient
from ollama_fleet.ollama.errors import OllamaError

log = logging.getLogger("ollama_fleet.agent")

LONGEST_WAIT = 60.0
_PATIENCE = 5.0
_AT_ONCE = 1.0
_LONGEST_VERSION = 64


class GaveUp(Exception):  # noqa: N818
    """Registering was tried as often as it may be."""


@dataclass(frozen=True)
class Surroundings:
    """What an agent sees of its machine."""

    load: Load
    environ: dict[str, str]
    address: Callable[[], str | None]
    in_flight: Callable[[int], Awaitable[int | None]] = in_flight


class Agent:
    """One machine's agent."""

    def __init__(self, settings: Settings, coordinator: Coordinator, here: Surroundings) -> None:
        self._settings = settings
        self._coordinator = coordinator
        self._here = here
        self._local = f"http://127.0.0.1:{settings.port}"
        self._told: dict[str, str] = {}
        self.agent_id: str | None = None
        """Under what the machine is registered."""

    async def run(self) -> None:
        """Until cancelled; raises `GaveUp`."""
        version = await self._first_version()
        while True:
            machine = await self._register(version)
            version = await self._report_for(machine)

    async def _first_version(self) -> str:
        """What is registered is a server, so there is nothing to register before it answers."""
        wait = 1.0
        while (version := await self._version()) is None:
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311
            wait = min(2 * wait, self._settings.interval)
        return version

    async def _register(self, version: str) -> Machine:
        gpus = await self._gpus()
        tries = 0
        while True:
            machine = self._machine(version, gpus)
            try:
                if machine is None:
                    raise CoordinatorError(
                        f"no way leads to {self._settings.host}, or it has no such name"
                    )
                self.agent_id = await self._coordinator.register(machine)
            except CoordinatorError as error:
                tries += 1
                limit = self._settings.max_retries
                if limit and tries > limit:
                    raise GaveUp(f"not registered after {tries} tries: {error}") from None
                self._tell("coordinator", f"not registered, trying again: {error}")
                # no two machines of a fleet that was away come back at the same moment
                jitter = random.uniform(0.8, 1.2)  # noqa: S311
                await asyncio.sleep(backoff(tries, self._settings.retry) * jitter)
                version = await self._version() or version
                continue
            self._told.pop("coordinator", None)
            log.info(
                "registration successful: %s at %s is agent %s",
                machine.machine_name,
                machine.ip_address,
                self.agent_id,
            )
            await self._look_from_outside(machine)
            return machine

    def _machine(self, version: str, gpus: Gpus | None) -> Machine | None:
        settings = self._settings
        address = settings.address or self._here.address()
        if address is None:
            return None
        return Machine(settings.machine_name, address, version, settings.port, gpus)

    async def _gpus(self) -> Gpus | None:
        found, troubles = await detect.gpus()
        self._tell("gpu", "; ".join(troubles))
        gpus = registered(found)
        told = f"GPU detected: {gpus}" if gpus else "no GPU detected: models run on the CPU"
        if gpus and gpus.count < len(found):
            told += f"; {len(found) - gpus.count} smaller ones are left out"
        self._tell("gpus", told, logging.INFO)
        return gpus

    async def _report_for(self, machine: Machine) -> str:
        """Reports until the machine has to be registered (again); Ollama's version then."""
        while True:
            version = await self._version()
            current = self._machine(version or machine.ollama_version, machine.gpus)
            if current is not None and current != machine:
                log.info("Ollama %s at %s: registering again", version, current.ip_address)
                return current.ollama_version
            try:
                assert self.agent_id is not None
                await self._coordinator.report(self.agent_id, await self._state(version))
            except UnknownAgent:
                log.info("the fleet does not know agent %s: registering again", self.agent_id)
                return machine.ollama_version
            except CoordinatorError as error:
                self._tell("coordinator", f"reports are not taken, trying again: {error}")
            else:
                if self._told.pop("coordinator", None):
                    log.info("reports are taken again")
            await asyncio.sleep(self._settings.interval * random.uniform(0.9, 1.0))  # noqa: S311

    async def _state(self, version: str | None) -> Report:
        active = await self._here.in_flight(self._settings.port) if version is not None else 0
        if active is None:
            self._tell("active", "the kernel does not tell of requests: reporting none of them")
        return Report(
            cpu_usage=self._here.load.cpu(),
            memory_usage=self._here.load.memory(),
            active_requests=active or 0,
            disk_usage=disk(models_folder(self._here.environ)),
            ollama_status="offline" if version is None else "online",
        )

    async def _version(self) -> str | None:
        """Ollama's; None while it does not answer."""
        try:
            async with OllamaClient(self._local, timeout=_PATIENCE) as ollama:
                version = (await ollama.version())[:_LONGEST_VERSION]
        except OllamaError as error:
            self._tell("ollama", f"Ollama does not answer, waiting for it: {error}")
            return None
        if self._told.pop("ollama", None):
            log.info("Ollama %s answers at %s", version, self._local)
        return version

    async def _look_from_outside(self, machine: Machine) -> None:
        """Ollama listens to its own machine alone, unless it is told otherwise."""
        host = f"[{machine.ip_address}]" if ":" in machine.ip_address else machine.ip_address
        url = f"http://{host}:{machine.ollama_port}"
        try:
            async with OllamaClient(url, timeout=_PATIENCE) as ollama:
                await ollama.version()
        except OllamaError as error:
            told = "the fleet may not reach Ollama: start it with OLLAMA_HOST=0.0.0.0"
            self._tell("outside", f"{told}, and let no firewall be in between ({error})")
        else:
            self._told.pop("outside", None)

    def _tell(self, about: str, sentence: str, level: int = logging.WARNING) -> None:
        """Once, until it is another one."""
        if self._told.get(about, "") != sentence:
            log.log(level, "%s", sentence)
        self._told[about] = sentence


def backoff(tries: int, first: float, longest: float = LONGEST_WAIT) -> float:
    """Seconds to wait after so many tries: ``first``, then twice as long each time up to the
    longest. With 0 at once, and from a second on after that: a hot loop would help nobody."""
    if not first:
        return 0.0 if tries == 1 else min(longest, _AT_ONCE * 2.0 ** min(tries - 2, 20))
    return min(max(longest, first), first * 2.0 ** min(tries - 1, 20))
