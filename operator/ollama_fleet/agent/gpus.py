"""GPUs, out of what nvidia-smi and rocm-smi print."""

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from ollama_fleet.api.quantity import gib

_MIB = 2**20
_LONGEST = 128
_UNKNOWN = re.compile(r"\[?(n/a|not supported|unknown.*|gpu is lost.*|0x[0-9a-f]+|)\]?", re.I)
_NUMBER = re.compile("[0-9]{1,15}")
_AMD = re.compile(r"\b(amd|radeon|instinct)\b", re.I)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance; ``memory`` in bytes, None where its driver does not tell (as
    where it shares the machine's)."""

    model: str
    memory: int | None


@dataclass(frozen=True, slots=True)
class Gpus:
    """Equal GPUs, as a machine registers them; ``memory`` is bytes of each."""

    model: str
    memory: int | None
    count: int

    def __str__(self) -> str:
        each = " each" if self.count > 1 else ""
        memory = "memory not told" if self.memory is None else f"{gib(self.memory)}{each}"
        return f"{f'{self.count} × ' if self.count > 1 else ''}{self.model}, {memory}"


class Unreadable(ValueError):  # noqa: N818
    """What a program printed is not what it is documented to print."""


def nvidia(text: str) -> tuple[list[Gpu], bool]:
    """The GPUs in `nvidia-smi --query-gpu=name,memory.total[,mig.mode.current]
    --format=csv,noheader,nounits`, and whether any of them is divided (MIG)."""
    found, divided = [], False
    for row in _rows(text):
        if not row or row == [""]:
            continue
        if len(row) < 2:
            raise Unreadable(f"nvidia-smi printed {row[0][:80]!r}")
        found.append(Gpu(_named(row[0], "NVIDIA GPU"), _mebibytes(row[1])))
        divided |= row[2:3] == ["Enabled"]
    return found, divided


def _rows(text: str) -> list[list[str]]:
    try:
        return list(csv.reader(text.splitlines(), skipinitialspace=True))
    except csv.Error as error:
        raise Unreadable(f"nvidia-smi printed no table: {error}") from None


def mig(text: str) -> list[Gpu]:
    """The GPUs in `nvidia-smi -q -x`: instead of a divided one, its instances."""
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - of the machine's own driver
    except ElementTree.ParseError as error:
        raise Unreadable(f"nvidia-smi printed no XML: {error}") from None
    found = []
    for gpu in root.iter("gpu"):
        model = _named(gpu.findtext("product_name") or "", "NVIDIA GPU")
        if gpu.findtext("mig_mode/current_mig") == "Enabled":
            found += [Gpu(f"{model} MIG", _total(one)) for one in gpu.iter("mig_device")]
        else:
            found.append(Gpu(model, _total(gpu)))
    return found


def rocm(text: str) -> list[Gpu]:
    """The GPUs in `rocm-smi --showproductname --showmeminfo vram --json`, with the warnings that
    it prints before."""
    _, brace, rest = text.partition("{")
    if not brace:
        return []
    try:
        cards, _ = json.JSONDecoder().raw_decode(brace + rest)
    except (ValueError, RecursionError):
        raise Unreadable(f"rocm-smi printed {text.strip()[:80]!r}") from None
    found = []
    for name in sorted(cards):
        card = cards[name]
        if name.startswith("card") and isinstance(card, dict):
            fields = {key.lower(): value for key, value in card.items()}
            found.append(Gpu(_product(fields), _bytes(fields.get("vram total memory (b)"))))
    return found


def registered(gpus: Iterable[Gpu]) -> Gpus | None:
    """How GPUs that may differ are registered: with n that have at least m bytes each, so that
    n × m is largest. A small one for the screen counts for nothing beside a large one."""
    ordered = sorted(gpus, key=lambda gpu: gpu.memory or 0, reverse=True)
    if not ordered:
        return None
    count = max(range(1, len(ordered) + 1), key=lambda n: (ordered[n - 1].memory or 0) * n)
    if ordered[0].memory is None:
        count = len(ordered)
    return Gpus(ordered[0].model, ordered[count - 1].memory, count)


def _named(text: str, default: str) -> str:
    name = " ".join(text.split())[:_LONGEST]
    return default if _UNKNOWN.fullmatch(name) else name


def _mebibytes(text: str) -> int | None:
    number = _number(text.strip().removesuffix("MiB"))
    return number * _MIB if number else None


def _total(element: ElementTree.Element) -> int | None:
    return _mebibytes(element.findtext("fb_memory_usage/total") or "")


def _product(card: dict[str, Any]) -> str:
    """Releases write "Card series" or "Card Series", and a number where they know no name."""
    for key in ("card series", "card model"):
        name = _named(str(card.get(key, "")), "")
        if name:
            return (name if _AMD.search(name) else f"AMD {name}")[:_LONGEST]
    return "AMD GPU"


def _bytes(text: object) -> int | None:
    return _number(str(text))


def _number(text: str) -> int | None:
    """None for 0, for what is no number, and for more than any memory has."""
    return int(text) or None if _NUMBER.fullmatch(text.strip()) else None
