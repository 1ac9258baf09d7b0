"""Which models are in memory. As in Ollama, one load is in hand at a time: a request that
needs room waits for a model to go, and every request behind it that needs a load waits too."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.ollama.emulator.settings import FOREVER, Settings
from dev.ollama.emulator.stats import Stats
from dev.ollama.emulator.store import Model

_CUDA_CONTEXT = 512 * 2**20
_SLOTS_COMPARED = 32
_LOAD_OPTIONS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")


class QueueFull(Exception):  # noqa: N818
    """More requests wait for a load than OLLAMA_MAX_QUEUE allows."""


@dataclass(slots=True, eq=False)
class Slot:
    """Room for one conversation of a loaded model; `prompt` is what it computed last."""

    prompt: str = ""


@dataclass(slots=True, eq=False)
class Runner:
    """A model in memory; one that is `wedged` never answers again. `size` and `size_vram` in bytes,
    `keep_alive` in seconds."""

    model: Model
    options: tuple[Any, ...]
    context: int
    size: int
    size_vram: int
    keep_alive: float
    free: list[Slot]
    requests: int = 0
    expires_at: float = 0.0
    last_used: float = 0.0
    expiry: asyncio.TimerHandle | None = None
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    promised: int = 0
    wedged: bool = False
    unloaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def take_slot(self, prompt: str) -> Slot:
        """Wait for a free slot, first come first served; gives the one that knows most of the
        prompt."""
        if len(self.free) <= self.promised:
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.cancelled():
                    self.waiting.remove(turn)
                else:
                    self.promised -= 1
                    self._wake()
                raise
            self.promised -= 1
        latest = self.free[-_SLOTS_COMPARED:]
        slot = max(latest, key=lambda slot: shared_prefix(slot.prompt, prompt))
        self.free.remove(slot)
        return slot

    def give_slot(self, slot: Slot, prompt: str) -> None:
        """Give a slot back; it remembers the prompt."""
        slot.prompt = prompt
        self.free.append(slot)
        self._wake()

    def _wake(self) -> None:
        turn = next((turn for turn in self.waiting if not turn.done()), None)
        if turn is not None and len(self.free) > self.promised:
            self.waiting.remove(turn)
            self.promised += 1
            turn.set_result(None)


@dataclass(slots=True, eq=False)
class _Pending:
    model: Model
    options: tuple[Any, ...]
    keep_alive: float | None
    placed: asyncio.Future[Runner]
    load: asyncio.Task[None] | None = None


class Scheduler:
    """Loads, evictions and expiry of models, in the GPU's memory if there is one."""

    def __init__(self, settings: Settings, stats: Stats) -> None:
        self._settings = settings
        self._stats = stats
        self._loaded: dict[Path, Runner] = {}
        self._pending: deque[_Pending] = deque()
        self._worker: asyncio.Task[None] | None = None

    def resident(self) -> Iterator[Runner]:
        """The models in memory, longest remaining first."""
        return iter(sorted(self._loaded.values(), key=lambda r: -self.expiry_of(r)))

    def expiry_of(self, runner: Runner) -> float:
        """When a model leaves memory (Unix time)."""
        return runner.expires_at or time.time() + min(runner.keep_alive, 292 * 365.25 * 86400)

    async def acquire(
        self, model: Model, options: dict[str, Any], keep_alive: float | None
    ) -> Runner:
        """Give the loaded model, loading it first if need be; to be given back by release().
        Raises QueueFull. Cancelling it aborts a load in hand."""
        wanted = self._load_options(model, options)
        runner = self._loaded.get(model.weights_path)
        if runner is not None and runner.options == wanted:
            return self._use(runner, keep_alive)
        if len(self._pending) >= self._settings.max_queue:
            raise QueueFull
        placed: asyncio.Future[Runner] = asyncio.get_running_loop().create_future()
        pending = _Pending(model, wanted, keep_alive, placed)
        self._pending.append(pending)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await asyncio.shield(placed)
        except asyncio.CancelledError:
            if placed.done() and not placed.cancelled():
                self.release(placed.result())
            placed.cancel()
            if pending.load is not None:
                pending.load.cancel()
            raise

    def release(self, runner: Runner) -> None:
        """End one request's use of a model."""
        runner.requests -= 1
        runner.last_used = time.monotonic()
        if runner.requests > 0:
            return
        if runner.keep_alive <= 0:
            self._unload(runner)
            return
        runner.expires_at = time.time() + min(runner.keep_alive, 292 * 365.25 * 86400)
        if runner.keep_alive != FOREVER:
            loop = asyncio.get_running_loop()
            runner.expiry = loop.call_later(runner.keep_alive, self._unload, runner)

    def expire(self, model: Model) -> None:
        """Take a model out of memory, once its requests have ended."""
        runner = self._loaded.get(model.weights_path)
        if runner is not None:
            self._expire(runner)

    def _use(self, runner: Runner, keep_alive: float | None) -> Runner:
        runner.requests += 1
        runner.expires_at = 0.0
        if runner.expiry is not None:
            runner.expiry.cancel()
            runner.expiry = None
        if keep_alive is not None:
            runner.keep_alive = keep_alive
        return runner

    async def _work(self) -> None:
        try:
            while self._pending:
                pending = self._pending.popleft()
                await self._place(pending)
        finally:
            self._worker = None

    async def _place(self, pending: _Pending) -> None:
        while not pending.placed.cancelled():
            runner = self._loaded.get(pending.model.weights_path)
            if runner is not None and runner.options == pending.options:
                pending.placed.set_result(self._use(runner, pending.keep_alive))
                return
            victim = runner or self._victim(pending)
            if victim is None:
                pending.load = asyncio.create_task(self._load(pending))
                await asyncio.wait([pending.load])
                return
            self._stats.evictions += 1
            self._expire(victim)
            await victim.unloaded.wait()

    def _victim(self, pending: _Pending) -> Runner | None:
        """The model that has to go first: idle before busy, then by keep-alive and last use."""
        if not self._loaded:
            return None
        full = len(self._loaded) >= self._settings.loaded_limit
        if not full and self._fits(pending):
            return None
        return min(self._loaded.values(), key=lambda r: (r.requests > 0, r.keep_alive, r.last_used))

    def _fits(self, pending: _Pending) -> bool:
        need = self._need(pending.model, pending.options)
        return not self._settings.gpu_memory or need <= self._free_memory()

    def _free_memory(self) -> int:
        used = sum(runner.size_vram + _CUDA_CONTEXT for runner in self._loaded.values())
        return self._settings.gpu_memory - used - _CUDA_CONTEXT

    async def _load(self, pending: _Pending) -> None:
        model = pending.model
        speed = self._settings.load_bytes_per_second
        try:
            if speed:
                await asyncio.sleep(model.weights / speed)
        except asyncio.CancelledError:
            self._stats.aborted_loads += 1
            raise
        if pending.placed.cancelled():
            return
        self._stats.loads += 1
        size = self._need(model, pending.options)
        on_gpu = self._settings.gpu_memory and _option(pending.options, "num_gpu") != 0
        keep_alive = pending.keep_alive
        runner = Runner(
            model=model,
            options=pending.options,
            context=self._context(model, pending.options),
            size=size,
            size_vram=min(size, max(0, self._free_memory())) if on_gpu else 0,
            keep_alive=self._settings.keep_alive if keep_alive is None else keep_alive,
            free=[Slot() for _ in range(self._parallel(model))],
        )
        self._loaded[model.weights_path] = runner
        pending.placed.set_result(self._use(runner, keep_alive))

    def _expire(self, runner: Runner) -> None:
        runner.keep_alive = 0
        runner.expires_at = time.time()
        if runner.requests == 0:
            self._unload(runner)

    def _unload(self, runner: Runner) -> None:
        if runner.expiry is not None:
            runner.expiry.cancel()
        if self._loaded.get(runner.model.weights_path) is runner:
            del self._loaded[runner.model.weights_path]
            self._stats.unloads += 1
        runner.unloaded.set()

    def _load_options(self, model: Model, options: dict[str, Any]) -> tuple[Any, ...]:
        merged = {"num_ctx": self._settings.default_context, **model.parameters, **options}
        return tuple(merged.get(key) for key in _LOAD_OPTIONS)

    def _parallel(self, model: Model) -> int:
        return 1 if model.is_embedding else self._settings.parallel

    def _context(self, model: Model, options: tuple[Any, ...]) -> int:
        trained = _number(model, "context_length", 1 << 30)
        return min(max(4, int(_option(options, "num_ctx") or 0)), trained)

    def _need(self, model: Model, options: tuple[Any, ...]) -> int:
        """Weights, key-value cache at f16 and compute buffer, in bytes."""
        context = self._context(model, options)
        batch = 512 if context <= 4096 else 1024 if context <= 32768 else 2048
        layers = _number(model, "block_count", 1)
        heads = _number(model, "attention.head_count_kv", 1)
        head_length = _number(model, "attention.key_length", 64) * 2
        window = _number(model, "attention.sliding_window", 0)
        sliding = layers // 2 if window else 0
        cells = (layers - sliding) * context + sliding * min(context, window + batch)
        cache = cells * heads * head_length * 2 * self._parallel(model)
        embedding = _number(model, "embedding_length", 0)
        return model.weights + cache + 4 * batch * (_number(model, "vocab_size", 0) + embedding)


def shared_prefix(a: str, b: str) -> int:
    """How many characters two texts begin with alike."""
    if b.startswith(a):
        return len(a)
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _option(options: tuple[Any, ...], key: str) -> Any:
    return options[_LOAD_OPTIONS.index(key)]


def _number(model: Model, key: str, default: int) -> int:
    value = model.header.get(f"{model.header.get('general.architecture')}.{key}", default)
    return value if isinstance(value, int) else default
