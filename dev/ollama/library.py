"""Stand-ins for models of the public library: their real names, sizes and architectures.

A package is what a registry holds of one model: a manifest and its blobs. The model layer of a
`sized` package has its real size, but only its GGUF header is real; its digest is of the header
and the size, as nobody has the other bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from dev.ollama import gguf_header

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE = "application/vnd.ollama.image."

TEMPLATE = (
    "{{ if .System }}<|system|>{{ .System }}{{ end }}"
    "{{ if .Prompt }}<|user|>{{ .Prompt }}{{ end }}<|assistant|>{{ .Response }}"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the library: bytes to download, and what its GGUF header says."""

    architecture: str
    size: int
    parameters: str
    quantization: str
    layers: int
    embedding: int
    heads: int
    kv_heads: int
    head_length: int
    context: int
    vocabulary: int
    sliding_window: int = 0

    @property
    def is_embedding(self) -> bool:
        """Whether it embeds and does not chat."""
        return "bert" in self.architecture


@dataclass(frozen=True, slots=True)
class Blob:
    """`content` is real; up to `size` bytes the rest is synthetic."""

    content: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Package:
    """A manifest's bytes, and the blobs by digest (`sha256:<hex>`)."""

    manifest: bytes
    blobs: dict[str, Blob]


def _entry(architecture: str, gigabytes: float, parameters: str, *shape: int) -> Entry:
    quantization = {"gptoss": "MXFP4", "bert": "F16", "nomic-bert": "F16"}
    return Entry(
        architecture,
        round(gigabytes * 1e9),
        parameters,
        quantization.get(architecture, "Q4_K_M"),
        *shape,
    )


# Columns: architecture, GB, parameters; layers, embedding, heads, KV heads, head length,
# context, vocabulary, sliding window.
LIBRARY: dict[str, Entry] = {
    "gpt-oss:20b": _entry("gptoss", 13.79, "20.9B", 24, 2880, 64, 8, 64, 131072, 201088, 128),
    "gpt-oss:120b": _entry("gptoss", 65.37, "116.8B", 36, 2880, 64, 8, 64, 131072, 201088, 128),
    "llama3.1:8b": _entry("llama", 4.92, "8.0B", 32, 4096, 32, 8, 128, 131072, 128256),
    "llama3.1:70b": _entry("llama", 42.52, "70.6B", 80, 8192, 64, 8, 128, 131072, 128256),
    "llama3.2:1b": _entry("llama", 1.32, "1.2B", 16, 2048, 32, 8, 64, 131072, 128256),
    "llama3.2:3b": _entry("llama", 2.02, "3.2B", 28, 3072, 24, 8, 128, 131072, 128256),
    "llama3.3:70b": _entry("llama", 42.52, "70.6B", 80, 8192, 64, 8, 128, 131072, 128256),
    "qwen3:0.6b": _entry("qwen3", 0.52, "751.63M", 28, 1024, 16, 8, 128, 40960, 151936),
    "qwen3:1.7b": _entry("qwen3", 1.4, "2.0B", 28, 2048, 16, 8, 128, 40960, 151936),
    "qwen3:4b": _entry("qwen3", 2.5, "4.0B", 36, 2560, 32, 8, 128, 262144, 151936),
    "qwen3:8b": _entry("qwen3", 5.23, "8.2B", 36, 4096, 32, 8, 128, 40960, 151936),
    "qwen3:14b": _entry("qwen3", 9.28, "14.8B", 40, 5120, 40, 8, 128, 40960, 151936),
    "qwen3:30b": _entry("qwen3moe", 18.56, "30.5B", 48, 2048, 32, 4, 128, 262144, 151936),
    "qwen3:32b": _entry("qwen3", 20.2, "32.8B", 64, 5120, 64, 8, 128, 40960, 151936),
    "qwen3-coder:30b": _entry("qwen3moe", 18.56, "30.5B", 48, 2048, 32, 4, 128, 262144, 151936),
    "mistral:7b": _entry("llama", 4.37, "7.2B", 32, 4096, 32, 8, 128, 32768, 32768),
    "mistral-nemo:12b": _entry("llama", 7.07, "12.2B", 40, 5120, 32, 8, 128, 1024000, 131072),
    "mixtral:8x7b": _entry("llama", 26.44, "46.7B", 32, 4096, 32, 8, 128, 32768, 32000),
    "llama2:7b": _entry("llama", 3.83, "6.7B", 32, 4096, 32, 32, 128, 4096, 32000),
    "llama2:13b": _entry("llama", 7.37, "13.0B", 40, 5120, 40, 40, 128, 4096, 32000),
    "llama2:70b": _entry("llama", 38.87, "69.0B", 80, 8192, 64, 8, 128, 4096, 32000),
    "phi3:mini": _entry("phi3", 2.18, "3.8B", 32, 3072, 32, 32, 96, 131072, 32064),
    "tinyllama:1.1b": _entry("llama", 0.64, "1.1B", 22, 2048, 32, 4, 64, 2048, 32000),
    "gemma:2b": _entry("gemma", 1.68, "2.5B", 18, 2048, 8, 1, 256, 8192, 256000),
    "gemma3:1b": _entry("gemma3", 0.81, "999.89M", 26, 1152, 4, 1, 256, 32768, 262144, 512),
    "gemma3:4b": _entry("gemma3", 3.34, "4.3B", 34, 2560, 8, 4, 256, 131072, 262144, 1024),
    "gemma3:12b": _entry("gemma3", 8.15, "12.2B", 48, 3840, 16, 8, 256, 131072, 262144, 1024),
    "gemma3:27b": _entry("gemma3", 17.4, "27.4B", 62, 5376, 32, 16, 128, 131072, 262144, 1024),
    "all-minilm:latest": _entry("bert", 0.0459, "23M", 6, 384, 12, 12, 32, 512, 30522),
    "nomic-embed-text:latest": _entry("nomic-bert", 0.2743, "137M", 12, 768, 12, 12, 64, 2048, 30522),  # noqa: E501
}  # fmt: skip

# Not of the library: it chats without an end, for tests of whoever leaves early.
ENDLESS = "endless:latest"
ENDLESS_KEY = "stand_in.endless"
LIBRARY[ENDLESS] = LIBRARY["llama3.2:1b"]

ALIASES = {
    "tinyllama:latest": "tinyllama:1.1b",
    "llama3.1:latest": "llama3.1:8b",
    "llama3.2:latest": "llama3.2:3b",
    "qwen3:latest": "qwen3:8b",
    "gpt-oss:latest": "gpt-oss:20b",
    "mistral:latest": "mistral:7b",
    "llama2:latest": "llama2:7b",
    "qwen3-coder:latest": "qwen3-coder:30b",
}


def answer(name: str) -> str:
    """What a stand-in for `name` says to everything."""
    return (
        f"I am a stand-in for {name}: a real model file with two layers and no knowledge. "
        "Each word of this answer leads to the next one, whatever you asked, so that a fleet "
        "of servers can be tried without a graphics card and without a long download. "
        "Pull the real model to get real answers."
    )


def find(name: str) -> tuple[str, Entry] | None:
    """The entry of `model:tag`, with its main name."""
    name = ALIASES.get(name, name)
    entry = LIBRARY.get(name)
    return (name, entry) if entry else None


def sized(name: str) -> Package | None:
    """The package with the model's real size; None if the library does not have it."""
    found = find(name)
    if found is None:
        return None
    name, entry = found
    header = gguf_header.write(header_values(name, entry))
    return package(name, entry, Blob(header, max(entry.size, len(header))))


def package(name: str, entry: Entry, model: Blob) -> Package:
    """The package of a model layer, with template and parameters beside it."""
    parameters: dict[str, Any] = {"num_thread": 1}
    parts: list[tuple[str, bytes]] = []
    if not entry.is_embedding:
        parameters |= {"temperature": 0, "stop": ["<|user|>"]}
        parts.append(("template", TEMPLATE.encode()))
    parts.append(("params", _compact(parameters)))
    digest = content_digest(model)
    blobs = {digest: model}
    layers = [_descriptor(_LAYER_TYPE + "model", digest, model.size)]
    for kind, content in parts:
        digest = content_digest(Blob(content, len(content)))
        blobs[digest] = Blob(content, len(content))
        layers.append(_descriptor(_LAYER_TYPE + kind, digest, len(content)))
    config = _compact(
        {
            "model_format": "gguf",
            "model_family": entry.architecture,
            "model_families": [entry.architecture],
            "model_type": entry.parameters,
            "file_type": entry.quantization,
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
    )
    digest = content_digest(Blob(config, len(config)))
    blobs[digest] = Blob(config, len(config))
    manifest = _compact(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(_CONFIG_TYPE, digest, len(config)),
            "layers": layers,
        }
    )
    return Package(manifest, blobs)


def content_digest(blob: Blob) -> str:
    """`sha256:<hex>` of a real blob's bytes; of a synthetic one's real bytes and its size."""
    content = hashlib.sha256(blob.content)
    if blob.size != len(blob.content):
        content.update(b"\0synthetic %d" % blob.size)
    return f"sha256:{content.hexdigest()}"


def header_values(name: str, entry: Entry) -> dict[str, Any]:
    """The GGUF header's values that say what the model is."""
    arch = entry.architecture
    values: dict[str, Any] = {
        "general.architecture": arch,
        "general.name": name,
        "general.type": "model",
        "general.file_type": 15,
        "general.parameter_count": _count(entry.parameters),
        f"{arch}.block_count": entry.layers,
        f"{arch}.context_length": entry.context,
        f"{arch}.embedding_length": entry.embedding,
        f"{arch}.attention.head_count": entry.heads,
        f"{arch}.attention.head_count_kv": entry.kv_heads,
        f"{arch}.attention.key_length": entry.head_length,
        f"{arch}.attention.value_length": entry.head_length,
        f"{arch}.vocab_size": entry.vocabulary,
    }
    if name == ENDLESS:
        values[ENDLESS_KEY] = True
    if entry.sliding_window:
        values[f"{arch}.attention.sliding_window"] = entry.sliding_window
    if entry.is_embedding:
        values[f"{arch}.pooling_type"] = 1
    return values


def _count(parameters: str) -> int:
    return round(float(parameters[:-1]) * {"B": 1e9, "M": 1e6}[parameters[-1]])


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _compact(value: Any) -> bytes:
    # As Go writes it: Ollama stores a manifest marshalled anew, and its digest must not change.
    return json.dumps(value, separators=(",", ":")).encode()
