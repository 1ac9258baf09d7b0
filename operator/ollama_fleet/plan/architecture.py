"""What of a model's GGUF header decides how much memory it takes to run."""

from collections.abc import Mapping
from dataclasses import dataclass

_MOST_LAYERS = 4096
_LONGEST = 2**24
"""Of any size that a header may name: more is no model, and must not overflow a sum."""

_WINDOWED = {
    "cohere2": (3, 4),
    "exaone4": (3, 4),
    "gemma2": (1, 2),
    "gemma3": (5, 6),
    "gemma3n": (4, 5),
    "gpt-oss": (1, 2),
    "gptoss": (1, 2),
}
"""Architectures whose layers see a sliding window: so many first of each so many, as
llama_hparams::set_swa_pattern has them. Others may name a window and do not use it."""
_BY_LAYER = (
    "attention.head_count",
    "attention.head_count_kv",
    "attention.sliding_window_pattern",
)
"""What may be a list, with a value for each layer."""


@dataclass(frozen=True)
class Architecture:
    """A model's shape. Rows are numbers that one token of context takes in the cache, summed over
    the layers that see all of it, and over those that see a sliding window."""

    name: str
    row: int
    windowed_row: int
    window: int
    """Tokens that a windowed layer looks back."""
    heads: int
    embedding: int
    vocabulary: int
    context: int
    """Tokens it was trained for."""
    embeds: bool = False
    sees: bool = False
    """Whether the part that reads images is in the same file."""


def architecture_of(header: Mapping[str, object], vocabulary: int = 0) -> Architecture | None:
    """The shape by a GGUF header's values, or /api/show's ``model_info``; None where they do not
    say enough. The latter leaves out lists, and so the tokens, whose number not every header gives
    besides: it is ``vocabulary`` then. Where it leaves out what each layer has, nothing is said:
    as the header has it is what counts, from wherever it comes."""
    name = header.get("general.architecture")
    if not isinstance(name, str):
        return None
    given = _Header(name, header)
    if any(given.left_out(key) for key in _BY_LAYER):
        return None
    layers, embedding = given.count("block_count"), given.count("embedding_length")
    if layers > _MOST_LAYERS:
        return None
    heads = max(given.counts("attention.head_count", layers), default=0)
    tokens = _count(header.get("tokenizer.ggml.tokens"))
    vocabulary = given.count("vocab_size") or tokens or _count(vocabulary)
    context = given.count("context_length")
    if not (layers and embedding and heads and vocabulary and context):
        return None
    row, windowed_row = (0, 0) if "bert" in name else given.rows(layers, embedding // heads)
    return Architecture(
        name=name,
        row=row,
        windowed_row=windowed_row,
        window=given.count("attention.sliding_window"),
        heads=heads,
        embedding=embedding,
        vocabulary=vocabulary,
        context=context,
        embeds=f"{name}.pooling_type" in header or "bert" in name,
        sees=given.count("vision.block_count") > 0,
    )


@dataclass(frozen=True)
class _Header:
    name: str
    values: Mapping[str, object]

    def get(self, key: str) -> object:
        return self.values.get(f"{self.name}.{key}")

    def left_out(self, key: str) -> bool:
        """Whether the file has it, and here it is not."""
        return f"{self.name}.{key}" in self.values and self.get(key) in (None, [])

    def count(self, key: str) -> int:
        return _count(self.get(key))

    def counts(self, key: str, layers: int) -> list[int]:
        """A value for each layer: the file gives one for all, or a list."""
        value = self.get(key)
        if isinstance(value, list | tuple):
            given = [_count(one) for one in value[:layers]]
            # an architecture with fewer entries than layers has nothing to keep in the rest
            return given + [0] * (layers - len(given))
        return [_count(value)] * layers

    def rows(self, layers: int, head_length: int) -> tuple[int, int]:
        """The rows of all layers that see everything, and of those that see a window."""
        if self.get("attention.head_count_kv") is None:
            kv_heads = self.counts("attention.head_count", layers)
        else:
            kv_heads = self.counts("attention.head_count_kv", layers)
        whole = self._lengths("", head_length)
        windowed = self._lengths("_swa", whole[0], whole[1])
        sees = self._windows(layers)
        own = layers - self.count("attention.shared_kv_layers")
        every = self.count("full_attention_interval") or 1
        rows = [0, 0]
        for layer in range(layers):
            # the last ones may look into the cache of earlier ones; others may keep a state only
            if layer < own and (layer + 1) % every == 0:
                rows[sees[layer]] += kv_heads[layer] * sum(windowed if sees[layer] else whole)
        return rows[0], rows[1]

    def _lengths(self, kind: str, *default: int) -> tuple[int, int]:
        keys = (f"attention.key_length{kind}", f"attention.value_length{kind}")
        return (
            self.count(keys[0]) or default[0],
            self.count(keys[1]) or default[-1],
        )

    def _windows(self, layers: int) -> list[bool]:
        """Which layers see a sliding window only."""
        if not self.count("attention.sliding_window"):
            return [False] * layers
        pattern = self.get("attention.sliding_window_pattern")
        if isinstance(pattern, list | tuple):
            given = [bool(one) for one in pattern[:layers]]
            return given + [False] * (layers - len(given))
        first, of = _WINDOWED.get(self.name, (0, 1))
        if first and (every := _count(pattern)):
            first, of = every - 1, every
        return [layer % of < first for layer in range(layers)]


def _count(value: object) -> int:
    """A size, or how many a list has that was not kept; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 <= value <= _LONGEST else 0
