import asyncio
from typing import Any, cast

import pytest

from ollama_fleet.controllers.feed import OPTIONAL, WATCHED, Feed
from ollama_fleet.controllers.loop import Loop, Result
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube import Kind, Kube, KubeError, NotFound, Unavailable
from ollama_fleet.kube.errors import Forbidden
from ollama_fleet.kube.kinds import (
    NODE,
    POD,
    RESOURCE_CLAIM,
    RESOURCE_CLAIM_TEMPLATE,
    RESOURCE_SLICE,
)
from ollama_fleet.kube.listing import ObjectList
from tests.unit.controllers.conftest import FakeClock

NO_SUCH_KIND = NotFound(404, "NotFound", "404 page not found")
DENIED = Forbidden(403, "Forbidden", "may not list")


class Cluster:
    """Lists nothing, or refuses to."""

    def __init__(self, refusals: dict[Kind, KubeError]) -> None:
        self.refusals = refusals
        self.listed: list[tuple[Kind, str | None]] = []

    async def list_page(self, kind: Kind, namespace: str | None = None, **_: Any) -> ObjectList:
        return await self.list_all(kind, namespace)

    async def list_all(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None
    ) -> ObjectList:
        self.listed.append((kind, namespace))
        if kind in self.refusals:
            raise self.refusals[kind]
        return ObjectList([], "1")


def feed(cluster: Cluster, store: Store, *namespaces: str, clock: FakeClock | None = None) -> Feed:
    clock = clock or FakeClock()

    async def reconcile(key: object) -> Result:
        return Result()

    loop = Loop(reconcile, clock, lambda: 0.5)
    return Feed(cast(Kube, cluster), store, loop, clock, lambda: 0.5, namespaces, 60.0)


OLD_CLUSTER = dict.fromkeys((RESOURCE_SLICE, RESOURCE_CLAIM, RESOURCE_CLAIM_TEMPLATE), NO_SUCH_KIND)


@pytest.mark.parametrize(
    "refusals",
    [{}, OLD_CLUSTER, {NODE: DENIED}, {NODE: DENIED, RESOURCE_SLICE: DENIED}],
)
def test_what_a_cluster_does_not_show_is_left_out(refusals: dict[Kind, KubeError]) -> None:
    store = Store()
    filled = feed(Cluster(refusals), store)
    asyncio.run(filled.fill())
    assert filled.kinds.keys() == WATCHED.keys() - refusals.keys()
    assert store.unread.keys() == refusals.keys()
    assert all(
        why in ("the cluster has no such kind", "may not list") for why in store.unread.values()
    )


@pytest.mark.parametrize("kind", OPTIONAL)
def test_what_may_pass_is_not_taken_for_a_refusal(kind: Kind) -> None:
    store = Store()
    filled = feed(Cluster({kind: Unavailable(503, "", "not now")}), store)
    with pytest.raises(Unavailable):
        asyncio.run(filled.fill())
    assert kind in filled.kinds
    assert not store.unread


def test_what_it_cannot_do_without_is_an_error() -> None:
    with pytest.raises(Forbidden):
        asyncio.run(feed(Cluster({POD: DENIED}), Store()).fill())


def test_kept_to_a_namespace_it_asks_for_no_more() -> None:
    cluster = Cluster({})
    asyncio.run(feed(cluster, Store(), "llm").fill())
    assert {namespace for kind, namespace in cluster.listed if kind.namespaced} == {"llm"}
    assert {namespace for kind, namespace in cluster.listed if not kind.namespaced} == {None}


async def test_everything_is_listed_again_after_the_interval(clock: FakeClock) -> None:
    cluster = Cluster({})
    running = asyncio.create_task(feed(cluster, Store(), clock=clock).run())
    await clock.advance(5.0)
    assert len(cluster.listed) == len(WATCHED)
    await clock.advance(59.0)
    assert len(cluster.listed) == len(WATCHED)
    await clock.advance(1.0)
    assert len(cluster.listed) == 2 * len(WATCHED)
    running.cancel()
