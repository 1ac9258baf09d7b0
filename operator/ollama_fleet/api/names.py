"""Model names, by Ollama's own rules: `[host[:port]/][namespace/]model[:tag]`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_PARTS = {
    "host": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*"), 350, "letters, digits, . _ - :"),
    "namespace": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*"), 80, "letters, digits, _ -"),
    "model": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), 80, "letters, digits, . _ -"),
    "tag": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), 80, "letters, digits, . _ -"),
}


class InvalidModelName(ValueError):  # noqa: N818
    """A text that is no model name; the message says what is wrong and what to write."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """A fully qualified model name. Ollama compares names without regard to case."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read a name, filling in registry.ollama.ai, library and latest.

        Raises InvalidModelName.
        """
        rest, tag = text, DEFAULT_TAG
        if rest.rfind(":") > rest.rfind("/"):
            rest, _, tag = rest.rpartition(":")
        host, namespace = DEFAULT_HOST, DEFAULT_NAMESPACE
        if "/" in rest:
            rest, _, model = rest.rpartition("/")
            if "/" in rest:
                host, _, namespace = rest.rpartition("/")
                host = host.removeprefix("https://")
            else:
                namespace = rest
        else:
            model = rest
        parts = {"host": host, "namespace": namespace, "model": model, "tag": tag}
        for part, value in parts.items():
            _check(text, part, value)
        return cls(**parts)

    @property
    def canonical(self) -> str:
        """The shortest full name, as /api/tags shows it: `llama3.2` is `llama3.2:latest`."""
        name = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{name}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{name}"
        return name

    @property
    def qualified(self) -> str:
        """All four parts: `registry.ollama.ai/library/llama3.2:latest`."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def manifest_path(self) -> str:
        """The manifest's path in a registry."""
        return f"/v2/{self.namespace}/{self.model}/manifests/{self.tag}"

    def blob_path(self, digest: str) -> str:
        """A blob's path in a registry; `digest` is `sha256:<64 hex>`."""
        return f"/v2/{self.namespace}/{self.model}/blobs/{digest}"

    def with_registry(self, host: str) -> ModelName:
        """The same model, at another registry (`host[:port]`)."""
        _check(host, "host", host)
        return replace(self, host=host)

    def is_same(self, other: ModelName) -> bool:
        """Whether both name one model."""
        return self.qualified.lower() == other.qualified.lower()

    def __str__(self) -> str:
        return self.canonical


def canonical(text: str) -> str:
    """Give a name's shortest full form; raises InvalidModelName."""
    return ModelName.parse(text).canonical


def same(a: str, b: str) -> bool:
    """Whether two names mean one model; a text that is no name is the same as nothing."""
    try:
        return ModelName.parse(a).is_same(ModelName.parse(b))
    except InvalidModelName:
        return False


def _check(text: str, part: str, value: str) -> None:
    pattern, longest, allowed = _PARTS[part]
    if not value:
        raise InvalidModelName(f"{text!r} is no model name: its {part} is empty; {_EXAMPLE}")
    if len(value) > longest:
        raise InvalidModelName(
            f"{text[:60]!r}… is no model name: its {part} is longer than {longest} characters"
        )
    if not pattern.fullmatch(value):
        raise InvalidModelName(
            f"{text!r} is no model name: its {part} {value!r} may hold {allowed} "
            f"and starts with a letter, digit or _; {_EXAMPLE}"
        )


_EXAMPLE = "write it like llama3.2:1b or registry.example.com/team/model:tag"
