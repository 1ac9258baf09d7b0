"""Stand-ins that a real Ollama loads and runs: real GGUF files of a few megabytes.

The chat model's attention and feed-forward weights are zero, so the next token depends on the
last one alone. Its embeddings are one-hot, and its output matrix leads from each word of a
fixed sentence to the next: the sentence is spelt from the end of any prompt, then it stops.
Its feed-forward layers are the wider the larger the real model is, so that a download and an
answer take a time that can be seen.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from dev.ollama import library
from dev.ollama.library import Blob, Package

_DIMENSION = 64
_HEADS = 4
_LAYERS = 2
_WIDTH = 8192
_VOCABULARY_LIMIT = _DIMENSION - 1
_CONFIDENCE = 10.0
_CONTEXT = 131072

Floats = npt.NDArray[np.float32]


@cache
def real(name: str) -> Package | None:
    """The package of a model that really runs, under a name of the library; the same bytes each
    time. None if the library does not have it."""
    found = library.find(name)
    if found is None:
        return None
    name, entry = found
    if entry.is_embedding:
        content = embedder(name)
    else:
        width = _WIDTH * max(1, min(round(entry.size / 1e9), 8))
        content = speaker(name, library.answer(name), width, endless=name == library.ENDLESS)
    small = replace(
        entry,
        architecture="bert" if entry.is_embedding else "llama",
        size=len(content),
        parameters=f"{len(content) // 4000}K",
        quantization="F32",
    )
    return library.package(name, small, Blob(content, len(content)))


def speaker(name: str, sentence: str, width: int, endless: bool = False) -> bytes:
    """A llama that answers everything with one sentence, over and over if `endless`; `width` is
    that of its feed-forward layers."""
    words = pieces(sentence)
    special = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    octets = [f"<0x{octet:02X}>" for octet in range(256)]
    first = len(special) + len(octets)
    size = first + len(words)
    embeddings = np.zeros((size, _DIMENSION), np.float32)
    embeddings[:first, 0] = 1
    output = np.zeros((size, _DIMENSION), np.float32)
    for state, _ in enumerate(words):
        embeddings[first + state, state + 1] = 1
        output[first + state, state] = _CONFIDENCE
    after = first if endless else special.index("</s>")
    output[after, len(words)] = _CONFIDENCE

    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * (len(special) - 1)]
    kinds += [gguf.TokenType.BYTE] * len(octets) + [gguf.TokenType.NORMAL] * len(words)
    with _File("llama", name) as file:
        writer = file.writer
        writer.add_context_length(_CONTEXT)
        writer.add_embedding_length(_DIMENSION)
        writer.add_block_count(_LAYERS)
        writer.add_feed_forward_length(width)
        writer.add_head_count(_HEADS)
        writer.add_head_count_kv(_HEADS)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(_DIMENSION // _HEADS)
        writer.add_vocab_size(size)
        writer.add_tokenizer_model("llama")
        writer.add_token_list([*special, *octets, *words])
        writer.add_token_scores([0.0] * first + [-1.0] * len(words))
        writer.add_token_types([int(kind) for kind in kinds])
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_space_prefix(False)
        if endless:
            writer.add_bool(library.ENDLESS_KEY, True)
        file.tensor("token_embd.weight", embeddings)
        square = np.zeros((_DIMENSION, _DIMENSION), np.float32)
        wide, narrow = (
            np.zeros(shape, np.float16) for shape in ((width, _DIMENSION), (_DIMENSION, width))
        )
        for layer in range(_LAYERS):
            for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
                file.tensor(f"blk.{layer}.{part}.weight", square)
            for part, weights in (("ffn_gate", wide), ("ffn_up", wide), ("ffn_down", narrow)):
                file.tensor(f"blk.{layer}.{part}.weight", weights)
            for part in ("attn_norm", "ffn_norm"):
                file.tensor(f"blk.{layer}.{part}.weight", np.ones(_DIMENSION, np.float32))
        file.tensor("output_norm.weight", np.ones(_DIMENSION, np.float32))
        file.tensor("output.weight", output)
    return file.content


def embedder(name: str) -> bytes:
    """A bert that embeds: weights without meaning, yet like texts come out alike."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    tokens = [*special, *(f"▁{letter}" for letter in letters), *letters]
    context = 512
    with _File("bert", name) as file:
        writer = file.writer
        writer.add_context_length(context)
        writer.add_embedding_length(_DIMENSION)
        writer.add_block_count(_LAYERS)
        writer.add_feed_forward_length(_DIMENSION)
        writer.add_head_count(_HEADS)
        writer.add_head_count_kv(_HEADS)
        writer.add_layer_norm_eps(1e-12)
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType.MEAN)
        writer.add_tokenizer_model("bert")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * len(tokens))
        kinds = [int(gguf.TokenType.CONTROL)] * len(special)
        writer.add_token_types(kinds + [int(gguf.TokenType.NORMAL)] * (len(tokens) - len(special)))
        writer.add_token_type_count(2)
        writer.add_unk_token_id(1)
        writer.add_bos_token_id(2)
        writer.add_sep_token_id(3)
        writer.add_pad_token_id(0)
        writer.add_mask_token_id(4)
        file.tensor("token_embd.weight", _scattered(1, len(tokens), _DIMENSION))
        file.tensor("token_types.weight", _scattered(2, 2, _DIMENSION))
        file.tensor("position_embd.weight", _scattered(3, context, _DIMENSION) / 8)
        file.norm("token_embd_norm")
        for layer in range(_LAYERS):
            parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")
            for number, part in enumerate(parts):
                weights = _scattered(10 * layer + number + 4, _DIMENSION, _DIMENSION)
                file.tensor(f"blk.{layer}.{part}.weight", weights / 4)
                file.tensor(f"blk.{layer}.{part}.bias", np.zeros(_DIMENSION, np.float32))
            file.norm(f"blk.{layer}.attn_output_norm")
            file.norm(f"blk.{layer}.layer_output_norm")
    return file.content


def pieces(sentence: str) -> list[str]:
    """Cut a sentence into tokens, `▁` for a space. No two may be the same, as each leads to one
    next: a word that was there before goes together with the one after it."""
    tokens: list[str] = []
    held = ""
    for word in re.findall(r"\s*\S+", sentence):
        held += word.replace(" ", "▁")
        if held not in tokens:
            tokens.append(held)
            held = ""
    if held:
        tokens[-1] += held
    if len(tokens) > _VOCABULARY_LIMIT:
        raise ValueError(f"the sentence has {len(tokens)} tokens, over {_VOCABULARY_LIMIT}")
    return tokens


class _File:
    """A GGUF file in the making; `content` is its bytes once it is left."""

    def __init__(self, architecture: str, name: str) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._path = Path(self._directory.name) / "model.gguf"
        self.content = b""
        self.writer = gguf.GGUFWriter(self._path, architecture)
        self.writer.add_name(name)
        self.writer.add_type("model")
        self.writer.add_file_type(gguf.LlamaFileType.ALL_F32)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            self.writer.write_header_to_file()
            self.writer.write_kv_data_to_file()
            self.writer.write_tensors_to_file()
        self.writer.close()
        if failure[0] is None:
            self.content = self._path.read_bytes()
        self._directory.cleanup()

    def tensor(self, name: str, values: npt.NDArray[Any]) -> None:
        """Add a tensor."""
        half = values.dtype == np.float16
        self.writer.add_tensor(name, values if half else values.astype(np.float32))

    def norm(self, name: str) -> None:
        """Add a layer norm that changes nothing but the scale."""
        self.tensor(f"{name}.weight", np.ones(_DIMENSION, np.float32))
        self.tensor(f"{name}.bias", np.zeros(_DIMENSION, np.float32))


def _scattered(seed: int, rows: int, columns: int) -> Floats:
    """Numbers between -1 and 1 without a pattern, by whole-number arithmetic: the same on every
    machine and for every version of numpy."""
    numbers = np.arange(rows * columns, dtype=np.uint64) + np.uint64(seed * 1_000_003)
    for _ in range(3):
        numbers = (numbers * np.uint64(0x9E3779B97F4A7C15)) ^ (numbers >> np.uint64(29))
    unit = (numbers >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    return unit.reshape(rows, columns)
