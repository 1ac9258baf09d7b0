"""Calls that are told to come again later."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from ollama_fleet.kube import Kube, KubeError, Object, TooManyRequests, Unavailable
from ollama_fleet.kube.errors import Fenced
from ollama_fleet.kube.kinds import CONFIG_MAP
from ollama_fleet.kube.transport import Transport
from tests.unit.kube.calls import ONE, OTHERS, WRITES

CALLS = WRITES | OTHERS


class Busy:
    """Refuses so many calls, each with the time after which to come again, or with an error."""

    def __init__(
        self, times: int, retry_after: float | None = None, error: KubeError | None = None
    ) -> None:
        slow = TooManyRequests(429, "TooManyRequests", "slow down", retry_after=retry_after)
        self.left, self.asked, self.error = times, 0, error or slow

    async def request(self, *_: object, **__: object) -> Object:
        self.asked += 1
        if self.left:
            self.left -= 1
            raise self.error
        return {"items": [], "status": {"token": "t"}}


def kube(busy: Busy, patience: float = 10.0) -> Kube:
    return Kube(cast(Transport, busy), patience=patience)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_call_comes_again_when_it_is_told_to(
    call: Callable[[Kube], Awaitable[Any]],
) -> None:
    busy = Busy(times=2, retry_after=0.001)
    await call(kube(busy))
    assert busy.asked == 3


@pytest.mark.parametrize(
    ("retry_after", "patience", "asked"),
    [
        (None, 10.0, 1),
        (0, 10.0, 1),
        (11.0, 10.0, 1),
        (0.002, 0.005, 3),
    ],
    ids=["nothing says when", "at once", "too long", "too often"],
)
async def test_its_patience_has_an_end(
    retry_after: float | None, patience: float, asked: int
) -> None:
    busy = Busy(times=9, retry_after=retry_after)
    with pytest.raises(TooManyRequests, match="slow down"):
        await kube(busy, patience).apply(ONE)
    assert busy.asked == asked


async def test_who_is_in_a_hurry_hears_of_it_at_once() -> None:
    busy = Busy(times=1, retry_after=0.001)
    with pytest.raises(TooManyRequests):
        await kube(busy).hurried().get(CONFIG_MAP, "a", "llm")
    assert busy.asked == 1


async def test_a_write_is_not_sent_again_once_another_may_be_leading() -> None:
    busy = Busy(times=1, retry_after=0.001)
    fenced = kube(busy).fenced(lambda: busy.asked == 0)
    with pytest.raises(Fenced):
        await fenced.apply(ONE)
    assert busy.asked == 1


@pytest.mark.parametrize("name", CALLS)
async def test_what_is_safe_to_repeat_is_repeated_when_the_server_stumbles(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_fleet.kube.patience._PAUSES", (0.001, 0.001))
    repeats = name in ("apply", "apply_status", "patch", "get", "list")
    for times, asked in ((1, 2), (3, 3)):
        busy = Busy(times, error=Unavailable(500, "InternalError", "etcd leader changed"))
        if repeats and times < asked:
            await CALLS[name](kube(busy))
        else:
            with pytest.raises(Unavailable, match="leader changed"):
                await CALLS[name](kube(busy))
        assert busy.asked == (asked if repeats else 1)


async def test_where_nobody_answers_nothing_is_repeated() -> None:
    busy = Busy(1, error=Unavailable(0, "Unreachable", "refused"))
    with pytest.raises(Unavailable, match="refused"):
        await kube(busy).get(CONFIG_MAP, "a", "llm")
    assert busy.asked == 1
