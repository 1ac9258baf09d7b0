"""Until when a leader may write."""

from typing import Any, cast

from ollama_fleet.controllers.leader import LEASE_SECONDS, RENEW_DEADLINE, Leader
from ollama_fleet.kube import Kube, Object
from tests.unit.controllers.conftest import FakeClock


class SlowApi:
    """Keeps a Lease, and answers a write `late` seconds after it is done."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.late = 0.0
        self.lease: Object | None = None

    def hurried(self) -> "SlowApi":
        return self

    async def get(self, *_: Any) -> Object | None:
        return self.lease

    async def create(self, lease: Object) -> Object:
        return await self.update(lease)

    async def update(self, lease: Object) -> Object:
        self.lease = lease
        self.clock.time += self.late
        return lease


async def test_it_counts_from_when_it_asked_for_the_lease(clock: FakeClock) -> None:
    api = SlowApi(clock)
    leader = Leader(cast(Kube, api), clock, lambda: 0.5, "a", "llm")
    assert not leader.sure()
    api.late = 5.0
    await leader.acquire()
    assert leader.sure()
    clock.time = RENEW_DEADLINE - 0.1
    assert leader.sure()
    clock.time = RENEW_DEADLINE
    assert not leader.sure()


def test_others_wait_longer_than_it_writes() -> None:
    assert RENEW_DEADLINE + 2.0 < LEASE_SECONDS
