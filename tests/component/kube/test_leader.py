import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ollama_fleet.controllers.leader import Leader, LeadershipLostError
from ollama_fleet.kube import Kube, Object
from ollama_fleet.kube.kinds import DEPLOYMENT, LEASE
from tests.component.kube.conftest import eventually
from tests.component.kube.proxy import Proxy

SPEED = 20.0


class FastClock:
    """Time that runs 20 times as fast."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() * SPEED

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds is None else seconds / SPEED):
                await event.wait()


Candidate = Callable[[str], Leader]


@pytest.fixture
def candidate(kube: Kube, namespace: str) -> Candidate:
    return lambda name: Leader(kube, FastClock(), lambda: 0.5, name, namespace)


async def lease(kube: Kube, namespace: str) -> Object:
    found = await kube.get(LEASE, "ollama-fleet-operator", namespace)
    assert found is not None
    return found


async def test_its_lease_goes_with_its_deployment(kube: Kube, namespace: str) -> None:
    labels = {"app": "operator"}
    meta = {"name": "operator", "namespace": namespace, "labels": labels}
    container = {"name": "operator", "image": "ollama-fleet/ollama-fleet:0.1.0"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template, "replicas": 0}
    await kube.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    )
    leader = Leader(kube, FastClock(), lambda: 0.5, "a", namespace, deployment="operator")
    await leader.acquire()
    (owner,) = (await lease(kube, namespace))["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Deployment", "operator")
    await kube.delete(DEPLOYMENT, "operator", namespace)

    async def gone() -> bool:
        return await kube.get(LEASE, "ollama-fleet-operator", namespace) is None

    await eventually(gone)


async def test_the_first_leads_and_renews(kube: Kube, namespace: str, candidate: Candidate) -> None:
    first = candidate("first")
    async with asyncio.timeout(5):
        await first.acquire()
    before = await lease(kube, namespace)
    assert before["spec"]["holderIdentity"] == "first"
    assert before["spec"]["leaseDurationSeconds"] == 10
    holding = asyncio.create_task(first.hold())

    async def renewed() -> bool:
        now = await lease(kube, namespace)
        return bool(now["spec"]["renewTime"] > before["spec"]["renewTime"])

    await eventually(renewed)
    holding.cancel()
    after = await lease(kube, namespace)
    assert after["spec"]["leaseTransitions"] == before["spec"]["leaseTransitions"]
    assert after["spec"]["acquireTime"] == before["spec"]["acquireTime"]


async def test_a_released_lease_is_taken_at_once(
    kube: Kube, namespace: str, candidate: Candidate
) -> None:
    first, second = candidate("first"), candidate("second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await first.release()
    async with asyncio.timeout(0.6):
        await waiting
    now = await lease(kube, namespace)
    assert now["spec"]["holderIdentity"] == "second"
    assert now["spec"]["leaseTransitions"] == 1
    assert not first.leading
    assert second.leading


async def test_a_leader_that_renews_keeps_the_others_waiting(
    kube: Kube, namespace: str, candidate: Candidate
) -> None:
    first, second = candidate("first"), candidate("second")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30 / SPEED):
            await second.acquire()
    assert not holding.done()
    holding.cancel()


async def test_the_lease_of_a_dead_leader_runs_out(
    kube: Kube, namespace: str, candidate: Candidate
) -> None:
    first, second = candidate("first"), candidate("second")
    await first.acquire()
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(5):
        await second.acquire()
    assert (asyncio.get_running_loop().time() - began) * SPEED > 10


async def test_a_leader_whose_lease_was_taken_stops(
    kube: Kube, namespace: str, candidate: Candidate
) -> None:
    first = candidate("first")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    await kube.patch(
        LEASE, "ollama-fleet-operator", namespace, {"spec": {"holderIdentity": "usurper"}}
    )
    with pytest.raises(LeadershipLostError, match="usurper leads now"):
        async with asyncio.timeout(5):
            await holding
    assert not first.leading
    await first.release()
    assert (await lease(kube, namespace))["spec"]["holderIdentity"] == "usurper"


async def test_a_leader_that_cannot_renew_stops_before_its_lease_ends(
    namespace: str, proxied: Path, proxy: Proxy
) -> None:
    async with await Kube.connect(str(proxied)) as kube:
        first = Leader(kube, FastClock(), lambda: 0.5, "first", namespace)
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        began = asyncio.get_running_loop().time()
        await proxy.cut()
        with pytest.raises(LeadershipLostError, match="could not be renewed: API server"):
            async with asyncio.timeout(5):
                await holding
        assert (asyncio.get_running_loop().time() - began) * SPEED < 10


async def test_a_short_interruption_is_survived(
    kube: Kube, namespace: str, proxied: Path, proxy: Proxy
) -> None:
    async with await Kube.connect(str(proxied)) as through:
        first = Leader(through, FastClock(), lambda: 0.5, "first", namespace)
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        await proxy.cut()
        await proxy.resume()
        before = await lease(kube, namespace)

        async def renewed() -> bool:
            now = await lease(kube, namespace)
            return bool(now["spec"]["renewTime"] > before["spec"]["renewTime"])

        await eventually(renewed)
        assert not holding.done()
        holding.cancel()
