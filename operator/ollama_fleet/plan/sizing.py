"""Whether a model fits a server, computed before a byte of it is pulled.

A loaded model takes, in bytes:

    weights   the sizes of its model and projector layers
    cache     b · parallel · (row · pad(context) + windowed_row · pad(min(context, window + batch)))
    compute   4 · batch · (vocabulary + embedding); without flash attention at least
              4 · batch · (heads · pad(context) + pad(context) + 4 · embedding)
    projector 1 GiB more than its weights, where it has one
    margin    what is to stay free (headroom), at least the 0.5 GiB that CUDA takes for itself

b is what a number takes in the cache: f16 2 bytes, q8_0 34/32, q4_0 18/32. pad rounds up to 256.
row is the sum over layers of kv_heads · (key_length + value_length). batch is what Ollama gives
llama-server as -b and -ub: 512 tokens up to a context of 4096, 1024 up to 32768, 2048 above; for a
model that embeds 2048, and it serves one request at a time. No request has more context than the
model was trained for.

One GPU takes a model that fills no more than 80 % of it. Otherwise Ollama spreads it over all GPUs
of the server, where each has its own compute buffer and margin.

Sources: llama.cpp src/llama-kv-cache.cpp and src/llama-kv-cache-iswa.cpp (cells, padding, one
stream for each parallel request), ggml-common.h (block_q8_0, block_q4_0); Ollama
llm/llama_server.go (appendBatchArgs, -c and -np, mmprojOffloadHeadroom) and server/sched.go. The
compute buffer is fitted to logs: tests/unit/plan/test_sizing.py has them, with their addresses.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Literal

from ollama_fleet.api.modeldistribution import Sizing
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.architecture import Architecture

CacheType = Literal["f16", "q8_0", "q4_0"]

GIB = 2**30
CUDA = GIB // 2
"""What CUDA takes for itself on each GPU."""
PROJECTOR = GIB
HEADROOM = GIB
BY_SIZE = Fraction(6, 5)
"""What a model takes of which nothing but the size is known: its context and buffers are mostly
less than a fifth."""
ONE_GPU = Fraction(4, 5)

_PAD = 256
_BYTES = {"f16": Fraction(2), "q8_0": Fraction(34, 32), "q4_0": Fraction(18, 32)}
_EMBEDDING_BATCH = 2048


@dataclass(frozen=True)
class Load:
    """How a server loads models. ``gpus`` is 0 for the CPU, ``margin`` in bytes."""

    context: int = 8192
    parallel: int = 1
    cache_type: CacheType = "f16"
    flash_attention: bool = True
    gpus: int = 1
    margin: int = HEADROOM

    @classmethod
    def of(cls, spec: OllamaNodeSpec) -> "Load":
        """As the servers of an OllamaNode do it."""
        server = spec.server
        return cls(
            context=server.context_length,
            parallel=server.parallel,
            cache_type=server.kv_cache_type,
            flash_attention=server.flash_attention,
            gpus=0 if spec.gpu.vendor == "none" else spec.gpu.count,
        )

    def at(self, context: int) -> "Load":
        """The same with another context."""
        return replace(self, context=context)

    def sized(self, sizing: Sizing) -> "Load":
        """With what a ModelDistribution wants it computed for."""
        return _sized(
            self,
            sizing.context_length or self.context,
            sizing.parallel or self.parallel,
            sizing.kv_cache_type or self.cache_type,
            sizing.headroom,
        )

    def serving(self, model: Architecture) -> "Load":
        """What of it comes true for a model: as much context as it was trained for, and one
        request at a time if it embeds; its cache is quantised with flash attention only."""
        return replace(
            self,
            context=min(self.context, model.context),
            parallel=1 if model.embeds else self.parallel,
            cache_type=self.cache_type if self.flash_attention else "f16",
        )

    def __str__(self) -> str:
        return f"context {self.context} × {self.parallel}, {self.cache_type}"


@lru_cache(maxsize=1024)  # the same for most servers of a fleet
def _sized(load: Load, context: int, parallel: int, cache_type: CacheType, headroom: str) -> Load:
    return replace(
        load,
        context=context,
        parallel=parallel,
        cache_type=cache_type,
        margin=bytes_of(headroom),
    )


@dataclass(frozen=True)
class Weights:
    """Bytes of the layers that are loaded: the model's own, and its projector's."""

    model: int
    projector: int = 0

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.model + self.projector


@dataclass(frozen=True)
class Shape:
    """A model as whoever has it describes it, a registry or a server. Without an architecture:
    they were asked, and do not say it."""

    architecture: Architecture | None = None
    weights: Weights | None = None
    """None: a server says only how large it is in all."""

    def weighs(self, size: int) -> Weights:
        """What is loaded of so many bytes in all."""
        return self.weights or Weights(size)


@dataclass(frozen=True)
class Fit:
    """Whether a model fits a server: bytes it needs, bytes there are (None: nobody says)."""

    need: int
    has: int | None
    load: Load
    estimated: bool = False
    """By its size alone."""

    @property
    def fits(self) -> bool:
        """Whether it does, as far as is known."""
        return self.has is None or self.need <= self.has

    def __str__(self) -> str:
        return self._told

    @cached_property
    def _told(self) -> str:
        # said of each server at each plan, and the same verdict holds for many
        need, has = amounts(self.need, self.has)
        how = str(self.load)
        if self.estimated:
            need, how = f"about {need}", "estimated from its size alone"
        if self.has is None:
            return f"needs {need} ({how}), and what the server has is unknown"
        return f"needs {need}, has {has} ({how})"


@lru_cache(maxsize=4096)
def fit(weights: Weights, model: Architecture | None, load: Load, memory: int | None) -> Fit:
    """The verdict on a model for a server with that memory, in bytes over all its GPUs."""
    if model is None:
        needed = math.ceil(weights.total * BY_SIZE) + _margin(load, 1)
        return Fit(needed, memory, load, estimated=True)
    load = load.serving(model)
    return Fit(need(weights, model, load, memory), memory, load)


def need(weights: Weights, model: Architecture, load: Load, memory: int | None = None) -> int:
    """Bytes to have for a model, margin included; with several GPUs it depends on theirs."""
    held = weights.total + cache(model, load)
    if weights.projector or model.sees:
        held += PROJECTOR
    buffers = compute(model, load)
    alone = held + buffers
    if load.gpus > 1 and (memory is None or alone > memory // load.gpus * ONE_GPU):
        return held + load.gpus * buffers + _margin(load, load.gpus)
    return alone + _margin(load, 1)


def cache(model: Architecture, load: Load, batch: int | None = None) -> int:
    """Bytes of the KV cache."""
    batch = batch or _batch(model, load)
    seen = min(load.context, model.window + batch)
    numbers = model.row * _padded(load.context) + model.windowed_row * _padded(seen)
    return math.ceil(numbers * load.parallel * _BYTES[load.cache_type])


def compute(model: Architecture, load: Load, batch: int | None = None) -> int:
    """Bytes of the compute buffer on one GPU."""
    batch = batch or _batch(model, load)
    output = 4 * batch * (model.vocabulary + model.embedding)
    if load.flash_attention:
        return output
    cells = _padded(load.context)
    scores = 4 * batch * (model.heads * cells + cells + 4 * model.embedding)
    return max(output, scores)


def _batch(model: Architecture, load: Load) -> int:
    if model.embeds:
        return min(_EMBEDDING_BATCH, load.context)
    if load.context <= 4096:
        return 512
    return 1024 if load.context <= 32768 else 2048


def _margin(load: Load, gpus: int) -> int:
    return gpus * max(load.margin, CUDA if load.gpus else 0)


def _padded(tokens: int) -> int:
    return -(-tokens // _PAD) * _PAD


def amounts(need: int, has: int | None) -> tuple[str, str]:
    """Both as people read them, and never alike where they differ."""
    told, other = amount(need), "" if has is None else amount(has)
    if has is None or told != other or need <= has:
        return told, other
    return f"{-(-need // 2**20)} MiB", f"{has // 2**20} MiB"


def amount(size: int) -> str:
    """Bytes with one digit after the point, so that what is compared looks alike."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"
