"""Models on offer: what people choose from before a registry is asked."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from ollama_fleet.api.model import Model
from ollama_fleet.api.names import InvalidModelName, canonical
from ollama_fleet.api.quantity import Quantity, bytes_of
from ollama_fleet.plan.architecture import Architecture, architecture_of
from ollama_fleet.plan.sizing import Fit, Load, Weights, fit

CONTEXTS = (4096, 8192, 32768)
"""Tokens of context that needs are told for."""
ENTRY = "models"
"""The entry of a ConfigMap that lists more models, as YAML."""
_MOST = 256


@dataclass(frozen=True)
class Offer:
    """A model on offer; ``size`` is what is downloaded, in bytes."""

    name: str
    display_name: str
    size: int
    description: str
    architecture: Architecture | None = None

    def fit(self, load: Load, memory: int | None = None) -> Fit:
        """Whether it fits servers that load models so and have that memory, in bytes."""
        return fit(Weights(self.size), self.architecture, load, memory)

    def needs(self, load: Load | None = None) -> dict[int, Fit]:
        """What it needs, by context."""
        load = load or Load()
        return {context: self.fit(load.at(context)) for context in CONTEXTS}


class _Entry(Model):
    name: Annotated[str, Field(max_length=256)]
    display_name: Annotated[str, Field(max_length=128)] = ""
    size: Quantity
    description: Annotated[str, Field(max_length=512)] = ""


class CatalogueError(ValueError):
    """A list of models that cannot be read; the text says what is wrong with which."""


def catalogue(listed: object = None) -> list[Offer]:
    """All models on offer, with those that a ConfigMap lists: its entry ``models``, read as YAML,
    is a list of ``{name, displayName, size, description}``. One of a built-in name takes its place.

    Raises CatalogueError.
    """
    offers = {offer.name: offer for offer in BUILT_IN}
    for entry in _entries(listed):
        known = offers.get(entry.name)
        offers[entry.name] = Offer(
            entry.name,
            entry.display_name or (known.display_name if known else entry.name),
            bytes_of(entry.size),
            entry.description or (known.description if known else ""),
            known.architecture if known else None,
        )
    return list(offers.values())


def _entries(listed: object) -> list[_Entry]:
    if listed is None:
        return []
    if not isinstance(listed, list) or len(listed) > _MOST:
        raise CatalogueError(f"{ENTRY} is no list of at most {_MOST} models")
    return [_entry(index, one) for index, one in enumerate(listed)]


def _entry(index: int, given: Any) -> _Entry:
    try:
        entry = _Entry.model_validate(given)
        return entry.model_copy(update={"name": canonical(entry.name)})
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join((f"{ENTRY}[{index}]", *(str(part) for part in first["loc"])))
        raise CatalogueError(f"{path}: {first['msg'].removeprefix('Value error, ')}") from None
    except InvalidModelName as error:
        raise CatalogueError(f"{ENTRY}[{index}].name: {error}") from None


# Columns: architecture; layers, embedding, heads, KV heads, head length, context, vocabulary,
# sliding window.
_SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "gpt-oss:20b": ("gptoss", (24, 2880, 64, 8, 64, 131072, 201088, 128)),
    "gpt-oss:120b": ("gptoss", (36, 2880, 64, 8, 64, 131072, 201088, 128)),
    "qwen3-coder:30b": ("qwen3moe", (48, 2048, 32, 4, 128, 262144, 151936)),
    "qwen3:0.6b": ("qwen3", (28, 1024, 16, 8, 128, 40960, 151936)),
    "qwen3:1.7b": ("qwen3", (28, 2048, 16, 8, 128, 40960, 151936)),
    "qwen3:4b": ("qwen3", (36, 2560, 32, 8, 128, 262144, 151936)),
    "qwen3:8b": ("qwen3", (36, 4096, 32, 8, 128, 40960, 151936)),
    "qwen3:14b": ("qwen3", (40, 5120, 40, 8, 128, 40960, 151936)),
    "qwen3:30b": ("qwen3moe", (48, 2048, 32, 4, 128, 262144, 151936)),
    "qwen3:32b": ("qwen3", (64, 5120, 64, 8, 128, 40960, 151936)),
    "llama3.1:8b": ("llama", (32, 4096, 32, 8, 128, 131072, 128256)),
    "llama3.3:70b": ("llama", (80, 8192, 64, 8, 128, 131072, 128256)),
    "llama3.2:1b": ("llama", (16, 2048, 32, 8, 64, 131072, 128256)),
    "llama3.2:3b": ("llama", (28, 3072, 24, 8, 128, 131072, 128256)),
    "gemma3:1b": ("gemma3", (26, 1152, 4, 1, 256, 32768, 262144, 512)),
    "gemma3:4b": ("gemma3", (34, 2560, 8, 4, 256, 131072, 262144, 1024)),
    "gemma3:12b": ("gemma3", (48, 3840, 16, 8, 256, 131072, 262144, 1024)),
    "gemma3:27b": ("gemma3", (62, 5376, 32, 16, 128, 131072, 262144, 1024)),
    "mistral:7b": ("llama", (32, 4096, 32, 8, 128, 32768, 32768)),
    "mistral-nemo:12b": ("llama", (40, 5120, 32, 8, 128, 1024000, 131072)),
    "mixtral:8x7b": ("llama", (32, 4096, 32, 8, 128, 32768, 32000)),
    "phi3:mini": ("phi3", (32, 3072, 32, 32, 96, 131072, 32064)),
    "tinyllama:1.1b": ("llama", (22, 2048, 32, 4, 64, 2048, 32000)),
    "nomic-embed-text:latest": ("nomic-bert", (12, 768, 12, 12, 64, 2048, 30522)),
    "all-minilm:latest": ("bert", (6, 384, 12, 12, 32, 512, 30522)),
}
_SEES = ("gemma3:4b", "gemma3:12b", "gemma3:27b")


def _shape(name: str) -> Architecture | None:
    kind, columns = _SHAPES[name]
    layers, embedding, heads, kv_heads, length, context, vocabulary, window = (*columns, 0)[:8]
    values = {
        "block_count": layers,
        "embedding_length": embedding,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": length,
        "attention.value_length": length,
        "attention.sliding_window": window,
        "context_length": context,
        "vocab_size": vocabulary,
        "vision.block_count": int(name in _SEES),
    }
    header = {f"{kind}.{key}": value for key, value in values.items()}
    return architecture_of({"general.architecture": kind, **header})


def _offer(name: str, display_name: str, gigabytes: float, description: str) -> Offer:
    return Offer(name, display_name, round(gigabytes * 1e9), description, _shape(name))


BUILT_IN = (
    _offer("gpt-oss:20b", "GPT-OSS 20B", 13.79, "Reasoning and tools, OpenAI's open weights."),
    _offer("gpt-oss:120b", "GPT-OSS 120B", 65.37, "The larger GPT-OSS, for one 80 GB card."),
    _offer("qwen3-coder:30b", "Qwen3 Coder 30B", 18.56, "Writes code; 3 of 30 billion active."),
    _offer("qwen3:0.6b", "Qwen3 0.6B", 0.52, "For the smallest machines, and for tests."),
    _offer("qwen3:1.7b", "Qwen3 1.7B", 1.4, "Small, thinks before it answers."),
    _offer("qwen3:4b", "Qwen3 4B", 2.5, "A good first model for 8 GB cards."),
    _offer("qwen3:8b", "Qwen3 8B", 5.23, "All-round, many languages."),
    _offer("qwen3:14b", "Qwen3 14B", 9.28, "All-round, for 16 GB cards."),
    _offer("qwen3:30b", "Qwen3 30B", 18.56, "As fast as a small one: 3 of 30 billion active."),
    _offer("qwen3:32b", "Qwen3 32B", 20.2, "The largest dense Qwen3."),
    _offer("llama3.1:8b", "Llama 3.1 8B", 4.92, "All-round, widely used, tools."),
    _offer("llama3.3:70b", "Llama 3.3 70B", 42.52, "Close to the largest Llama, for 48 GB and up."),
    _offer("llama3.2:1b", "Llama 3.2 1B", 1.32, "Small and fast, for summaries."),
    _offer("llama3.2:3b", "Llama 3.2 3B", 2.02, "Small, follows instructions well."),
    _offer("gemma3:1b", "Gemma 3 1B", 0.81, "Small, text alone."),
    _offer("gemma3:4b", "Gemma 3 4B", 3.34, "Reads images, many languages."),
    _offer("gemma3:12b", "Gemma 3 12B", 8.15, "Reads images, for 16 GB cards."),
    _offer("gemma3:27b", "Gemma 3 27B", 17.4, "The largest Gemma 3, reads images."),
    _offer("mistral:7b", "Mistral 7B", 4.37, "All-round, long proven."),
    _offer("mistral-nemo:12b", "Mistral Nemo 12B", 7.07, "Long texts, many languages."),
    _offer("mixtral:8x7b", "Mixtral 8x7B", 26.44, "A mixture of eight experts."),
    _offer("phi3:mini", "Phi-3 Mini", 2.18, "Small, trained on textbooks."),
    _offer("tinyllama:1.1b", "TinyLlama 1.1B", 0.64, "For tests."),
    _offer("nomic-embed-text:latest", "Nomic Embed Text", 0.2743, "Embeddings for search."),
    _offer("all-minilm:latest", "All-MiniLM", 0.0459, "The smallest embeddings."),
)
