"""Answers: waiting for the model, then word by word at a set speed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from dev.ollama import library
from dev.ollama.emulator.faults import Fault, Faults
from dev.ollama.emulator.formats import Format, Metrics
from dev.ollama.emulator.scheduler import QueueFull, Runner, Scheduler, shared_prefix
from dev.ollama.emulator.server import JSON, Exchange
from dev.ollama.emulator.settings import Settings
from dev.ollama.emulator.stats import Stats
from dev.ollama.emulator.store import Model

_STREAM_FAULTS = ("cut_stream", "end_stream", "stream_error")
_BURST = 32
_ENDLESS = 2000


class Refused(Exception):  # noqa: N818
    """An answer that is an error: its status, and the message as Ollama words it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class Completion:
    """What is asked of a model."""

    model: Model
    prompt: str
    format: Format
    stream: bool
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive: float | None = None


class Generator:
    """Runs completions."""

    def __init__(
        self, settings: Settings, scheduler: Scheduler, faults: Faults, stats: Stats
    ) -> None:
        self._settings = settings
        self._scheduler = scheduler
        self._faults = faults
        self._stats = stats
        self._answers: dict[str, tuple[bytes, ...]] = {}

    async def load(self, model: Model, options: dict[str, Any], keep_alive: float | None) -> Runner:
        """Load a model, or find it loaded; to be given back to the scheduler."""
        try:
            return await self._scheduler.acquire(model, options, keep_alive)
        except QueueFull:
            message = "server busy, please try again.  maximum pending requests exceeded"
            raise Refused(503, message) from None

    async def complete(self, exchange: Exchange, wanted: Completion) -> None:
        """Load the model, wait for a slot, and send the answer."""
        began = time.perf_counter_ns()
        runner = await self.load(wanted.model, wanted.options, wanted.keep_alive)
        try:
            loaded = time.perf_counter_ns()
            if self._faults:
                self._wedge(runner)
            if runner.wedged:
                await asyncio.Event().wait()
            slot = await runner.take_slot(wanted.prompt)
            known = shared_prefix(slot.prompt, wanted.prompt)
            self._stats.generating += 1
            try:
                await self._generate(exchange, wanted, known, began, loaded)
            finally:
                self._stats.generating -= 1
                runner.give_slot(slot, wanted.prompt)
        finally:
            self._scheduler.release(runner)

    def _wedge(self, runner: Runner) -> None:
        """Ollama loses a slot for good; what was unloaded since begins anew."""
        name = runner.model.name.canonical
        if self._faults.strike("stuck", model=name) is not None:
            runner.wedged = True
            runner.requests += 1
        elif self._faults.strike("wedge", model=name) is not None:
            runner.wedged = True

    async def _generate(
        self, exchange: Exchange, wanted: Completion, known: int, began: int, loaded: int
    ) -> None:
        prompt_tokens = count_tokens(wanted.prompt)
        fresh = count_tokens(wanted.prompt[known:])
        self._stats.prompt_tokens += prompt_tokens
        self._stats.cached_prompt_tokens += prompt_tokens - fresh
        if self._settings.prompt_tokens_per_second:
            await asyncio.sleep(fresh / self._settings.prompt_tokens_per_second)
        evaluated = time.perf_counter_ns()
        tokens, reason = self._answer(wanted)
        speed = self._settings.tokens_per_second

        def metrics() -> Metrics:
            end = time.perf_counter_ns()
            return Metrics(
                total_duration=end - began,
                load_duration=loaded - began,
                prompt_eval_count=prompt_tokens,
                prompt_eval_duration=evaluated - loaded,
                eval_count=len(tokens),
                eval_duration=end - evaluated,
            )

        if not wanted.stream:
            await asyncio.sleep(len(tokens) / speed if speed else 0)
            self._stats.tokens += len(tokens)
            text = "".join(orjson.loads(token) for token in tokens)
            exchange.send_json(200, wanted.format.whole(text, reason, metrics()), JSON)
            return
        fault = self._stream_fault(exchange, wanted)
        sent = tokens[: fault.chunks] if fault else tokens
        exchange.begin(wanted.format.content_type)
        opening = wanted.format.opening()
        if opening:
            exchange.write(*opening)
        stream = _Stream(exchange, wanted.format.token, sent, speed)
        await stream.run()
        self._stats.tokens += len(sent)
        if fault is None:
            exchange.write(*wanted.format.closing(reason, metrics()))
            exchange.end()
        elif fault.kind == "cut_stream":
            exchange.cut()
        else:
            if fault.kind == "stream_error":
                exchange.write(orjson.dumps({"error": fault.message}) + b"\n")
            exchange.end()

    def _stream_fault(self, exchange: Exchange, wanted: Completion) -> Fault | None:
        if not self._faults:
            return None
        name = wanted.model.name.canonical
        struck = (self._faults.strike(kind, exchange.path, name) for kind in _STREAM_FAULTS)
        return next((fault for fault in struck if fault), None)

    def _answer(self, wanted: Completion) -> tuple[tuple[bytes, ...], str]:
        """The tokens as JSON strings, and why they end."""
        model = wanted.model
        answer = self._answers.get(model.digest)
        if answer is None:
            name = str(model.header.get("general.name", model.name.canonical))
            words = re.findall(r"\s*\S+", library.answer(name))
            length = self._settings.answer_tokens or len(words)
            words = [*words, *([f" {words[0]}", *words[1:]] * (length // len(words)))][:length]
            if model.header.get(library.ENDLESS_KEY):
                words *= _ENDLESS
            answer = self._answers[model.digest] = tuple(orjson.dumps(word) for word in words)
        limit = wanted.options.get("num_predict")
        if isinstance(limit, int) and 0 <= limit < len(answer):
            return answer[:limit], "length"
        return answer, "stop"


class _Stream:
    """Writes tokens at a steady rate from timers alone; it waits for a slow reader."""

    def __init__(
        self,
        exchange: Exchange,
        shape: Callable[[bytes], bytes],
        tokens: tuple[bytes, ...],
        speed: float,
    ) -> None:
        self._exchange = exchange
        self._shape = shape
        self._tokens = tokens
        self._speed = speed
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.Handle | None = None
        self._sent = 0
        self._begin = self._loop.time()

    async def run(self) -> None:
        """Send all; raises Disconnected or is cancelled if the client leaves."""
        self._tick()
        try:
            await self._done
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _tick(self) -> None:
        if self._done.done():
            return
        try:
            self._write_due()
        except Exception as error:
            self._done.set_exception(error)
            return
        if self._sent == len(self._tokens):
            self._done.set_result(None)
            return
        paused = self._exchange.writable()
        if paused is not None:
            paused.add_done_callback(lambda _: self._tick())
        elif self._speed:
            self._timer = self._loop.call_at(self._begin + self._sent / self._speed, self._tick)
        else:
            self._timer = self._loop.call_soon(self._tick)

    def _write_due(self) -> None:
        due = _BURST
        if self._speed:
            due = int((self._loop.time() - self._begin) * self._speed) + 1 - self._sent
        chunk = self._tokens[self._sent : self._sent + max(1, due)]
        if chunk:
            self._exchange.write(*(self._shape(token) for token in chunk))
        self._sent += len(chunk)


def count_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return (len(text) + 3) // 4
