"""One life of one resource, with a fault or without, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2

from ollama_fleet.kube.kinds import KINDS, POD
from tests.faults.calls import plain_name
from tests.faults.faults import told
from tests.faults.grounds import Grounds
from tests.faults.ledger import difference
from tests.faults.operating import operating
from tests.faults.process import OperatorProcess
from tests.faults.proxy import Fault, Proxy
from tests.faults.scenarios import Scenario, Step, ready
from tests.faults.waiting import until

WITHIN = 60.0
"""Seconds for a step of a run with a fault, which a clean run takes a few for."""
QUIET = 1.5
"""Seconds without a write, which is rest."""
OPTIONS = ("--no-leader-elect", "--resync-interval=2s", "--probe-interval=2s")
_PLURALS = {kind.plural: kind for kind in KINDS.values()}

Arm = Callable[[Callable[[], None]], Fault]
"""Makes a fault, given what kills the operator."""


@dataclass
class Record:
    """What one run was like, up to where it got."""

    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    writes: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    met: bool = False
    seconds: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds that each step took."""


@dataclass
class Verdict:
    """How a run with a fault differs from the clean one; all three are empty where it does not."""

    lost: list[str]
    duplicated: list[str]
    stuck: list[str]


def verdict(clean: Record, record: Record) -> Verdict:
    if record.stuck:
        return Verdict([], [], record.stuck)
    wanted, found = clean.counts, record.counts
    lost, duplicated = [], []
    for which in sorted({*wanted, *found}):
        line = f"{which}: {found[which]} instead of {wanted[which]}"
        if found[which] < wanted[which]:
            lost.append(line)
        elif found[which] > wanted[which]:
            duplicated.append(line)
    return Verdict(lost, duplicated, [])


class Run:
    """A scenario, in a namespace of its own, under an operator of its own."""

    def __init__(self, grounds: Grounds, scenario: Scenario, clean: Record | None) -> None:
        self._grounds = grounds
        self._scenario = scenario
        self._clean = clean
        self._killed = asyncio.Event()
        self._record = Record()

    async def live(self, arm: Arm = lambda kill: Fault()) -> Record:
        """From the first step to the last; a step that never ends is the last."""
        grounds = self._grounds
        began = time.monotonic()
        async with grounds.namespace() as namespace, Proxy(grounds.cluster) as proxy:
            async with operating(grounds, namespace, proxy, *OPTIONS) as operator:
                keeping = asyncio.create_task(self._keep(operator))

                def kill() -> None:
                    operator.kill()
                    self._killed.set()

                try:
                    await self._prepare(namespace, proxy)
                    proxy.fault = arm(kill)
                    await self._steps(namespace, proxy)
                    self._record.met = proxy.fault.met
                except AssertionError as error:
                    self._record.stuck.append(f"before the first step: {error}")
                finally:
                    keeping.cancel()
            log = grounds.folder / namespace / "operator" / "log"
            if any(word in log.read_text() for word in ("Traceback", "by a defect")):
                self._record.stuck.append(f"a traceback in {log}")
        self._record.seconds = time.monotonic() - began
        return self._record

    async def _keep(self, operator: OperatorProcess) -> None:
        """Start the operator again whenever it was killed or has ended, as a kubelet does."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._killed.wait(), 0.2)
            if self._killed.is_set() or not operator.runs:
                self._killed.clear()
                await asyncio.to_thread(operator.join)
                operator.start()

    async def _prepare(self, namespace: str, proxy: Proxy) -> None:
        before = self._scenario.before
        await self._grounds.apply(namespace, *before)
        names = [(_plural(obj["kind"]), obj["metadata"]["name"]) for obj in before]
        if names:
            check = ready(*names)
            await until(lambda: check(self._grounds.ledger, namespace), "the run can begin")
            await until(lambda: _rests(proxy, QUIET), "the operator rests before the run")
        else:
            await until(lambda: proxy.watching, "the operator watches")
        proxy.writes.clear()
        proxy.events.clear()
        self._grounds.ledger.counts.pop(namespace, None)

    async def _steps(self, namespace: str, proxy: Proxy) -> None:
        record = self._record
        for step in self._scenario.steps:
            began = time.monotonic()
            await self._grounds.apply(namespace, *step.apply)
            for plural, name in step.delete:
                await self._grounds.kube.delete(_PLURALS[plural], name, namespace)
            try:
                await self._step(namespace, proxy, step)
            except AssertionError as error:
                record.stuck.append(f"{step.name}: {error}")
                break
            finally:
                record.steps[step.name] = time.monotonic() - began
        try:
            await until(lambda: _rests(proxy, QUIET), "no more writes", WITHIN)
        except AssertionError:
            last = [str(call) for _, call in proxy.writes[-3:]]
            record.stuck.append(f"it goes on writing: {last}")
        record.counts = Counter(self._grounds.ledger.counts[namespace])
        try:
            record.counts += await self._pulled(namespace)
        except httpx2.HTTPError as error:
            record.stuck.append(f"a server does not answer: {error!r}")
        record.writes = [str(call) for _, call in proxy.writes]
        record.events = [told(event) for _, _, event in proxy.events]

    async def _step(self, namespace: str, proxy: Proxy, step: Step) -> None:
        ledger = self._grounds.ledger
        if self._clean is None:
            try:
                await until(lambda: step.done(ledger, namespace), "the clean run goes on", WITHIN)
            except AssertionError as error:
                raise AssertionError(f"{error}: {ledger.state(namespace)}") from None
            await until(lambda: _rests(proxy, 2 * QUIET), "the clean run rests")
            self._record.states[step.name] = await self._state(namespace)
            return
        wanted = self._clean.states[step.name]
        differences: list[str] = []

        async def same() -> bool:
            nonlocal differences
            differences = difference({**wanted, "models": None}, ledger.state(namespace))
            if not differences:
                try:
                    differences = difference(wanted, await self._state(namespace))
                except httpx2.HTTPError as error:
                    differences = [f"a server does not answer: {error!r}"]
            return not differences

        try:
            await until(same, "it never came to the same", WITHIN)
        except AssertionError as error:
            raise AssertionError(f"{error}: {'; '.join(differences)}") from None

    async def _state(self, namespace: str) -> dict[str, Any]:
        """All there is, and the models that servers have."""
        found = self._grounds.ledger.state(namespace)
        models: dict[str, list[Any]] = {}
        for name, url in self._servers(namespace):
            tags = (await _ask(url, "/api/tags"))["models"]
            models.setdefault(name, []).append({one["name"]: one["digest"] for one in tags})
        return {**found, "models": models or None}

    async def _pulled(self, namespace: str) -> Counter[str]:
        """What servers did for the operator."""
        found: Counter[str] = Counter()
        for name, url in self._servers(namespace):
            stats = await _ask(url, "/_emulator/stats")
            found[f"MB pulled to {name}"] += round(stats["pulled_bytes"] / 1e6)
            found[f"models deleted from {name}"] += stats["requests"].get("/api/delete", 0)
        return found

    def _servers(self, namespace: str) -> list[tuple[str, str]]:
        return sorted(
            (plain_name(pod["metadata"]["name"]), f"http://{pod['status']['podIP']}:11434")
            for pod in self._grounds.ledger.objects(namespace, POD)
            if "ollamafleet.dev/ollamanode" in pod["metadata"].get("labels", {})
            and pod["status"].get("podIP")
            and "deletionTimestamp" not in pod["metadata"]
        )


async def _ask(url: str, path: str) -> Any:
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        return (await client.get(url + path)).raise_for_status().json()


def _rests(proxy: Proxy, seconds: float) -> bool:
    """Whether the operator has written nothing for so long."""
    now = asyncio.get_running_loop().time()
    last = proxy.writes[-1][0] if proxy.writes else proxy.began
    return now - max(last, proxy.began) > seconds


def _plural(kind: str) -> str:
    return next(one.plural for one in KINDS.values() if one.kind == kind)
