"""The emulator's settings: Ollama's own environment variables, and EMULATOR_* for the rest.

EMULATOR_MODELS names models that are there from the start, EMULATOR_FAULTS is a JSON list of faults
in force from the start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOREVER = float("inf")

_UNITS = {
    "": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes in bytes, times in seconds, speeds per second; a speed of 0 is without limit."""

    host: str = "127.0.0.1"
    port: int = 11434
    models: Path = Path()
    parallel: int = 1
    max_loaded: int = 0
    max_queue: int = 512
    keep_alive: float = 300.0
    context_length: int = 0
    origins: tuple[str, ...] = ()
    version: str = "0.17.4"
    gpu_memory: int = 0
    tokens_per_second: float = 50.0
    prompt_tokens_per_second: float = 2000.0
    answer_tokens: int = 0
    load_bytes_per_second: float = 2e9
    pull_bytes_per_second: float = 0.0

    @property
    def default_context(self) -> int:
        """The context length of a model loaded without one: by the GPU's memory."""
        if self.context_length:
            return self.context_length
        if self.gpu_memory >= 47 * 2**30:
            return 262144
        return 32768 if self.gpu_memory >= 23 * 2**30 else 4096

    @property
    def loaded_limit(self) -> int:
        """How many models may be in memory at once: three if not said."""
        return self.max_loaded or 3


def from_environment(env: Mapping[str, str]) -> Settings:
    """Read the settings; raises ValueError with a sentence for what cannot be read."""
    host, port = _address(env.get("OLLAMA_HOST", "").strip())
    home = Path(env.get("HOME", "/"))
    return Settings(
        host=host,
        port=port,
        models=Path(env.get("OLLAMA_MODELS") or home / ".ollama" / "models"),
        parallel=max(1, int(env.get("OLLAMA_NUM_PARALLEL") or 1)),
        max_loaded=int(env.get("OLLAMA_MAX_LOADED_MODELS") or 0),
        max_queue=int(env.get("OLLAMA_MAX_QUEUE") or 512),
        keep_alive=duration(env.get("OLLAMA_KEEP_ALIVE") or "5m"),
        context_length=int(env.get("OLLAMA_CONTEXT_LENGTH") or 0),
        origins=tuple(filter(None, env.get("OLLAMA_ORIGINS", "").split(","))),
        version=env.get("EMULATOR_VERSION") or "0.17.4",
        gpu_memory=quantity(env.get("EMULATOR_GPU_MEMORY") or "0"),
        tokens_per_second=float(env.get("EMULATOR_TOKENS_PER_SECOND") or 50),
        prompt_tokens_per_second=float(env.get("EMULATOR_PROMPT_TOKENS_PER_SECOND") or 2000),
        answer_tokens=int(env.get("EMULATOR_ANSWER_TOKENS") or 0),
        load_bytes_per_second=quantity(env.get("EMULATOR_LOAD_BYTES_PER_SECOND") or "2G"),
        pull_bytes_per_second=quantity(env.get("EMULATOR_PULL_BYTES_PER_SECOND") or "0"),
    )


def quantity(text: str) -> int:
    """Read bytes, like `24Gi`, `500M` or `1073741824`."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kKMGT]i?)?B?\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity of bytes; write it like 24Gi or 500M")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def duration(text: str | float) -> float:
    """Read seconds, from Go's `1h30m` or a number; below zero means for ever."""
    if isinstance(text, str) and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        body = text.removeprefix("-")
        parts = re.findall(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)", body)
        if not parts or "".join(number + unit for number, unit in parts) != body:
            raise ValueError(f'time: invalid duration "{text}"')
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        return FOREVER if text.startswith("-") else seconds
    return FOREVER if float(text) < 0 else float(text)


def _address(text: str) -> tuple[str, int]:
    port = 11434
    scheme, separator, rest = text.partition("://")
    if separator:
        port = 443 if scheme == "https" else 80
        text = rest
    text = text.partition("/")[0]
    host, _, tail = text.rpartition(":")
    if tail.isdigit() and (not host or ":" not in host or host.endswith("]")):
        return host.strip("[]") or "0.0.0.0", int(tail)
    return text.strip("[]") or "127.0.0.1", port
