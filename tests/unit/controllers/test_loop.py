import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from ollama_fleet.controllers.loop import BUSY, Key, Loop, Outcome, Result, TransientError
from ollama_fleet.kube import Invalid, TooManyRequests, Unavailable
from ollama_fleet.kube.kinds import OLLAMA_NODE
from tests.unit.controllers.conftest import FakeClock, settle

A = Key(OLLAMA_NODE, "default", "a")
B = Key(OLLAMA_NODE, "default", "b")


class Recorder:
    """A reconciler that notes when it ran, and does as told."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.runs: list[tuple[str, float]] = []
        self.ended: list[tuple[str, Outcome]] = []
        self.answer: Callable[[Key], Awaitable[Result]] | None = None
        self.error: Exception | None = None
        self.result = Result()

    async def __call__(self, key: Key) -> Result:
        self.runs.append((key.name, self.clock.time))
        if self.answer is not None:
            return await self.answer(key)
        if self.error is not None:
            raise self.error
        return self.result

    def observe(self, key: Key, outcome: Outcome, seconds: float) -> None:
        self.ended.append((key.name, outcome))

    @property
    def times(self) -> list[float]:
        return [time for _, time in self.runs]


@pytest.fixture
def recorder(clock: FakeClock) -> Recorder:
    return Recorder(clock)


@asynccontextmanager
async def running(
    recorder: Recorder, random: float = 0.0, at_once: int = 32
) -> AsyncIterator[Loop]:
    loop = Loop(recorder, recorder.clock, lambda: random, recorder.observe, at_once=at_once)
    task = asyncio.create_task(loop.run())
    await settle()
    try:
        yield loop
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_marked_key_runs_once(recorder: Recorder) -> None:
    async with running(recorder) as loop:
        loop.mark(A)
        loop.mark(A)
        await settle()
        await recorder.clock.advance(600)
    assert recorder.runs == [("a", 0.0)]
    assert recorder.ended == [("a", "ok")]


async def test_marks_during_a_run_make_one_run_more_and_never_two_at_once(
    recorder: Recorder,
) -> None:
    gate = asyncio.Event()
    inside, most = 0, 0

    async def answer(key: Key) -> Result:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await gate.wait()
        inside -= 1
        return Result()

    recorder.answer = answer
    async with running(recorder) as loop:
        loop.mark(A)
        await settle()
        for _ in range(3):
            loop.mark(A)
        await settle()
        assert recorder.runs == [("a", 0.0)]
        gate.set()
        await settle()
    assert len(recorder.runs) == 2
    assert most == 1


async def test_many_keys_run_at_once_up_to_the_limit(recorder: Recorder) -> None:
    gate = asyncio.Event()

    async def answer(key: Key) -> Result:
        await gate.wait()
        return Result()

    recorder.answer = answer
    keys = [Key(OLLAMA_NODE, "default", f"k{i}") for i in range(5)]
    async with running(recorder, at_once=3) as loop:
        for key in keys:
            loop.mark(key)
        await settle()
        assert [name for name, _ in recorder.runs] == ["k0", "k1", "k2"]
        assert len(loop) == 5
        gate.set()
        await settle()
        assert [name for name, _ in recorder.runs] == ["k0", "k1", "k2", "k3", "k4"]
        assert len(loop) == 0


@pytest.mark.parametrize(("random", "second"), [(0.0, 60.0), (0.5, 61.5)])
async def test_a_requeue_comes_when_asked_or_a_little_later(
    recorder: Recorder, random: float, second: float
) -> None:
    recorder.result = Result(requeue_after=60)
    async with running(recorder, random) as loop:
        loop.mark(A)
        await settle()
        await recorder.clock.advance(65)
    assert recorder.times == [0.0, second]


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
async def test_a_requeue_comes_at_once_where_the_time_of_day_jumps(
    recorder: Recorder, seconds: float
) -> None:
    recorder.result = Result(requeue_after=86400)
    async with running(recorder) as loop:
        loop.mark(A)
        await recorder.clock.advance(5)
        recorder.clock.set_forward = seconds
        await recorder.clock.advance(60)
    assert recorder.times == [0.0, 10.0]


async def test_a_run_in_which_the_time_of_day_jumps_is_done_again(recorder: Recorder) -> None:
    done = asyncio.Event()

    async def slow(key: Key) -> Result:
        await done.wait()
        return Result(requeue_after=86400)

    recorder.answer = slow
    async with running(recorder) as loop:
        loop.mark(A)
        await recorder.clock.advance(5)
        recorder.clock.set_forward = 3600.0
        await recorder.clock.advance(60)
        done.set()
        await recorder.clock.advance(1)
    assert len(recorder.runs) == 2


async def test_a_mark_comes_before_a_requeue_and_replaces_it(recorder: Recorder) -> None:
    recorder.result = Result(requeue_after=60)
    async with running(recorder) as loop:
        loop.mark(A)
        await recorder.clock.advance(10)
        loop.mark(A)
        await recorder.clock.advance(65)
    assert recorder.times == [0.0, 10.0, 70.0]


async def test_replaced_requeues_take_no_room(recorder: Recorder) -> None:
    recorder.result = Result(requeue_after=86400)
    async with running(recorder) as loop:
        for _ in range(300):
            loop.mark(A)
            await recorder.clock.advance(1)
        assert len(recorder.runs) == 300
        assert len(loop._heap) < 100
        await recorder.clock.advance(86400)
        assert len(recorder.runs) == 301


async def test_failures_wait_twice_as_long_each_time_up_to_five_minutes(recorder: Recorder) -> None:
    recorder.error = Unavailable(503, "", "down")
    async with running(recorder, random=0.999999999) as loop:
        loop.mark(A)
        await recorder.clock.advance(2000)
    gaps = [round(b - a) for a, b in zip(recorder.times, recorder.times[1:], strict=False)]
    assert gaps[:11] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


async def test_a_success_forgets_the_failures(recorder: Recorder) -> None:
    recorder.error = TransientError("not yet")
    async with running(recorder, random=0.999999999) as loop:
        loop.mark(A)
        await recorder.clock.advance(10)
        recorder.error = None
        await recorder.clock.advance(10)
        recorder.runs.clear()
        recorder.error = TransientError("not yet")
        loop.mark(A)
        await recorder.clock.advance(4)
    gaps = [round(b - a) for a, b in zip(recorder.times, recorder.times[1:], strict=False)]
    assert gaps == [1, 2]


async def test_backoff_is_jittered(recorder: Recorder) -> None:
    recorder.error = TransientError("not yet")
    async with running(recorder, random=0.0) as loop:
        loop.mark(A)
        await recorder.clock.advance(2)
    assert recorder.times == [0.0, 0.5, 1.5]


async def test_a_failing_key_is_not_hot_however_often_it_is_marked(recorder: Recorder) -> None:
    recorder.error = Invalid(422, "Invalid", "no")
    async with running(recorder, random=0.999999999) as loop:
        loop.mark(A)
        for _ in range(100):
            await recorder.clock.advance(0.1)
            loop.mark(A)
    assert 5 <= len(recorder.runs) <= 11


async def test_the_servers_retry_after_is_respected(recorder: Recorder) -> None:
    recorder.error = TooManyRequests(429, "", "slow down", retry_after=30)
    async with running(recorder) as loop:
        loop.mark(A)
        await recorder.clock.advance(31)
    assert recorder.times == [0.0, 30.0]


@pytest.mark.parametrize(
    ("error", "outcome", "traceback"),
    [
        (Unavailable(503, "", "down"), "transient", False),
        (TransientError("server is loading"), "transient", False),
        (Invalid(422, "Invalid", "spec.x: required"), "error", False),
        (ZeroDivisionError("oh"), "error", True),
    ],
)
async def test_what_is_said_of_failures(
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    outcome: Outcome,
    traceback: bool,
) -> None:
    recorder.error = error
    with caplog.at_level(logging.INFO):
        async with running(recorder) as loop:
            loop.mark(A)
            await settle()
    assert recorder.ended == [("a", outcome)]
    (record,) = caplog.records
    assert "OllamaNode/default/a" in record.getMessage()
    assert bool(record.exc_info) == traceback
    assert traceback or str(error) in record.getMessage()


async def test_an_absent_api_server_is_told_once_not_for_every_object(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.error = Unavailable(0, "Unreachable", "API server https://x: gone")
    with caplog.at_level(logging.INFO):
        async with running(recorder) as loop:
            for number in range(50):
                loop.mark(Key(OLLAMA_NODE, "default", f"k{number}"))
            await recorder.clock.advance(10)
            assert len(recorder.ended) > 100
            assert len(caplog.records) == 1
            await recorder.clock.advance(60)
    assert 2 <= len(caplog.records) <= 3


async def test_one_keys_failure_leaves_the_others_alone(recorder: Recorder) -> None:
    async def answer(key: Key) -> Result:
        if key == A:
            raise ZeroDivisionError
        return Result(requeue_after=1)

    recorder.answer = answer
    async with running(recorder, random=0.0) as loop:
        loop.mark(A)
        loop.mark(B)
        await recorder.clock.advance(5)
    assert [time for name, time in recorder.runs if name == "b"] == [0, 1, 2, 3, 4, 5]


async def test_stopping_ends_what_runs_at_once(recorder: Recorder) -> None:
    ended = asyncio.Event()

    async def answer(key: Key) -> Result:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Result()

    recorder.answer = answer
    async with running(recorder) as loop:
        loop.mark(A)
        await settle()
        assert not ended.is_set()
    assert ended.is_set()
    assert recorder.ended == []


async def test_a_run_that_never_ends_is_cut_off(clock: FakeClock) -> None:
    async def forever(key: Key) -> Result:
        await asyncio.Event().wait()
        return Result()

    outcomes: list[Outcome] = []
    cut = asyncio.Event()

    def observe(key: Key, outcome: Outcome, seconds: float) -> None:
        outcomes.append(outcome)
        cut.set()

    loop = Loop(forever, clock, lambda: 0.0, observe, timeout=0.01)
    task = asyncio.create_task(loop.run())
    loop.mark(A)
    async with asyncio.timeout(5):
        await cut.wait()
    task.cancel()
    assert outcomes == ["transient"]


async def test_the_heart_beats_while_nothing_happens(recorder: Recorder) -> None:
    async with running(recorder) as loop:
        await recorder.clock.advance(100)
        assert recorder.clock.time - loop.last_beat <= 10


async def test_who_rests_runs_once_for_all_marks_meanwhile(recorder: Recorder) -> None:
    recorder.result = Result(rest=1.0)
    async with running(recorder) as loop:
        for _ in range(1000):
            loop.mark(A)
            await recorder.clock.advance(0.01)
        await recorder.clock.advance(60)
    assert recorder.times == pytest.approx([float(second) for second in range(11)])


async def test_who_rests_keeps_nobody_else_waiting_and_runs_at_once_afterwards(
    recorder: Recorder,
) -> None:
    recorder.result = Result(rest=1.0)
    async with running(recorder) as loop:
        loop.mark(A)
        await recorder.clock.advance(0.5)
        loop.mark(B)
        await recorder.clock.advance(4.5)
        loop.mark(A)
        await settle()
    assert recorder.runs == [("a", 0.0), ("b", 0.5), ("a", 5.0)]


async def test_what_is_soon_enough_waits_and_comes_with_what_is_not(recorder: Recorder) -> None:
    async with running(recorder) as loop:
        loop.mark(A, 5.0)
        loop.mark(B, 5.0)
        await recorder.clock.advance(2.0)
        loop.mark(A)
        loop.mark(B, 9.0)
        await recorder.clock.advance(60)
    assert recorder.runs == [("a", 2.0), ("b", 5.0)]


@pytest.mark.parametrize(("requeue_after", "next_run"), [(None, 4.0), (2.0, 3.0)])
async def test_what_is_soon_enough_during_a_run_comes_when_it_is_due(
    recorder: Recorder, requeue_after: float | None, next_run: float
) -> None:
    over = asyncio.Event()

    async def answer(key: Key) -> Result:
        await over.wait()
        return Result(requeue_after) if len(recorder.runs) == 1 else Result()

    recorder.answer = answer
    async with running(recorder) as loop:
        loop.mark(A)
        await recorder.clock.advance(1.0)
        for within in (5.0, 3.0, 4.0):
            loop.mark(A, within)
        over.set()
        await recorder.clock.advance(60)
    assert recorder.times == [0.0, next_run]


async def test_what_is_wanted_again_at_once_waits_for_the_rest(recorder: Recorder) -> None:
    recorder.result = Result(0.0, rest=1.0)
    async with running(recorder) as loop:
        loop.mark(A)
        await recorder.clock.advance(2.5)
    assert recorder.times == [0.0, 1.0, 2.0]


async def test_who_was_reconciled_of_late_is_busy(recorder: Recorder) -> None:
    async with running(recorder) as loop:
        assert loop.busy() == 0
        loop.mark(A)
        await recorder.clock.advance(BUSY - 1)
        loop.mark(A)
        loop.mark(B)
        await recorder.clock.advance(1.5)
        assert loop.busy() == 2
        await recorder.clock.advance(BUSY)
        assert loop.busy() == 0
