"""Two operators, one Lease: the second takes over in time, and no two ever write at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest

from ollama_fleet.kube.kinds import LEASE, MODEL_DISTRIBUTION, OLLAMA_NODE, POD
from tests.cluster.fleet import LARGE, OPERATOR, distribution, ollama_node
from tests.faults.calls import Call
from tests.faults.faults import Severed
from tests.faults.grounds import Grounds
from tests.faults.operating import operating
from tests.faults.process import OperatorProcess
from tests.faults.proxy import Proxy
from tests.faults.scenarios import ready
from tests.faults.waiting import until

WITHIN = 15.0
"""Seconds from the end of a leader to the first write of the next."""
SLOW = {"EMULATOR_PULL_BYTES_PER_SECOND": "3M"}
"""The large model takes eleven seconds."""


@dataclass
class Pair:
    """The first leads; the second waits."""

    first: OperatorProcess
    second: OperatorProcess
    front: Proxy
    back: Proxy
    severed: Severed


def written(proxy: Proxy) -> list[tuple[float, Call]]:
    """Writes but for those of the Lease itself."""
    return [(when, call) for when, call in proxy.writes if call.kind != LEASE]


@asynccontextmanager
async def pair(there: Grounds, namespace: str) -> AsyncIterator[Pair]:
    severed = Severed()
    async with (
        Proxy(there.cluster, severed) as front,
        Proxy(there.cluster) as back,
        operating(there, namespace, front, name="first") as first,
    ):
        await until(lambda: front.watching, "the first leads")
        async with operating(there, namespace, back, name="second") as second:
            yield Pair(first, second, front, back, severed)
    await there.kube.delete(LEASE, "ollama-fleet-operator", OPERATOR)


async def kill(two: Pair) -> None:
    two.first.kill()


async def freeze(two: Pair) -> None:
    two.first.kill(signal.SIGSTOP)


async def cut_off(two: Pair) -> None:
    two.severed.on = True


@pytest.mark.parametrize("end", [kill, freeze, cut_off])
async def test_the_second_takes_over(
    there: Grounds, end: Callable[[Pair], Awaitable[None]], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = asyncio.get_running_loop().time
    async with there.namespace() as namespace, pair(there, namespace) as two:
        await there.apply(namespace, ollama_node(server_env=SLOW), distribution("m", LARGE))

        def pulling() -> bool:
            found = there.ledger.get(namespace, MODEL_DISTRIBUTION, "m") or {}
            tasks = (found.get("status") or {}).get("tasks") or ()
            return any(one["state"] == "Pulling" for one in tasks)

        await until(pulling, "the first pulls")
        changing = asyncio.create_task(keep_changing(there, namespace))
        try:
            await until(lambda: len(written(two.front)) > 10, "the first writes")
            began = clock()
            await end(two)
            await until(lambda: written(two.back), "the second writes", 30)
            took = written(two.back)[0][0] - began
            # whatever the first was about to do, it may do now
            two.severed.on = False
            two.first.kill(signal.SIGCONT)
            await until(lambda: not two.first.runs, "the first has ended", 30)
        finally:
            changing.cancel()
        check = ready((MODEL_DISTRIBUTION.plural, "m"), (OLLAMA_NODE.plural, "a"))
        await until(lambda: check(there.ledger, namespace), "the model is there", 30)
        with capsys.disabled():
            print(f"\n{end.__name__}: the second wrote after {took:.1f} s")
        assert took < WITHIN
        assert max(when for when, _ in written(two.front)) < written(two.back)[0][0]
        assert await pulled(there, namespace) < 1.1 * 32e6


async def keep_changing(there: Grounds, namespace: str) -> None:
    """Give whoever leads something to write, five times a second."""
    for weight in range(1, 10000):
        await there.apply(namespace, ollama_node(weight=weight, server_env=SLOW))
        await asyncio.sleep(0.2)


async def pulled(there: Grounds, namespace: str) -> int:
    """Bytes, to the one server."""
    (pod,) = there.ledger.objects(namespace, POD)
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{pod['status']['podIP']}:11434/_emulator/stats")
    return int(answer.json()["pulled_bytes"])
