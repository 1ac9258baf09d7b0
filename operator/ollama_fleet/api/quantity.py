"""Units people write: memory quantities, durations, counts relative to a whole."""

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from ollama_fleet.api.pattern import VALIDATIONS, Pattern

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(m|[KMGTPE]i|[kMGTPE]|[eE][+-]?[0-9]{1,2})?")
_CPU = re.compile(r"([0-9]+(?:\.[0-9]+)?)([num]?)")
_SMALL = {"n": -9, "u": -6, "m": -3, "": 0}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}

QUANTITY = Pattern(
    r"^[0-9]{1,18}(\.[0-9]{1,9})?([KMGTPE]i|[kMGTPE])?$",
    "not a quantity: write a number and a unit, such as 24Gi (24 × 2^30 bytes) or 24G (24e9)",
)
AMOUNT = Pattern(
    r"^[0-9]{1,18}(\.[0-9]{1,9})?([KMGTPE]i|[mkMGTPE])?$",
    "not an amount: write a number and a unit, such as 500m or 2 for cpu, 8Gi for memory",
)
# at most six digits each, so that the sum stays below the 292 years that CEL's duration() takes
DURATION = Pattern(
    r"^([0-9]{1,6}(\.[0-9]{1,3})?h)?([0-9]{1,6}(\.[0-9]{1,3})?m)?"
    r"([0-9]{1,6}(\.[0-9]{1,3})?s)?([0-9]{1,6}ms)?$",
    "not a duration: write numbers and units, such as 20s, 10m or 1h30m",
)
KEEP_ALIVE = Pattern(
    r"^(-1|([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?)$",
    "not a time to keep a model: write a duration such as 30m, or -1 for ever",
)
ABOVE_ZERO = Pattern(
    r"^[^1-9]*0[^1-9]*$",
    "zero, which leaves no time at all: write a longer one, such as 5s",
    forbidden=True,
)
PERCENT = re.compile(r"(100|[1-9][0-9]?)%")
_COUNT = "not a count or a share: write a number of at least 1, or a percentage from 1% to 100%"


def bytes_of(quantity: str | int) -> int:
    """Bytes in a Kubernetes quantity, rounded up: ``16G`` = 16e9, ``16Gi`` = 2**34.

    Raises ValueError for anything that is not one.
    """
    match = _QUANTITY.fullmatch(str(quantity).strip())
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity: write a number and a unit, as in 24Gi")
    number, unit = Decimal(match[1]), match[2] or ""
    if unit == "m":
        return math.ceil(number / 1000)
    if unit[:1] in ("e", "E") and len(unit) > 1 and unit != "Ei":
        return math.ceil(number.scaleb(int(unit[1:])))
    return math.ceil(number * (_BINARY.get(unit) or _DECIMAL[unit]))


def cores_of(quantity: str) -> float:
    """Cores in a quantity of CPU: ``2``, ``500m``, ``123456789n``.

    Raises ValueError for anything that is not one.
    """
    match = _CPU.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not an amount of CPU: write it as in 500m or 2")
    return float(Decimal(match[1]).scaleb(_SMALL[match[2]]))


def short_quantity(size: int) -> str:
    """Bytes as a quantity people read: ``24Gi`` if whole, else in ``Mi``."""
    if size == 0:
        return "0"
    for unit, factor in (("Gi", 2**30), ("Mi", 2**20)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size / 2**30:.1f}Gi" if size >= 2**30 else f"{size // 2**20}Mi"


def seconds_of(duration: str) -> float:
    """Seconds in a duration such as ``20s``, ``1h30m`` or ``250ms``.

    Raises ValueError for anything that is not one.
    """
    parts = _DURATION_PART.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is not a duration: write 20s, 10m or 1h30m")
    return float(sum(Fraction(number) * _SECONDS[unit] for number, unit in parts))


def count_of(value: int | str, total: int) -> int:
    """An int-or-percent of ``total``, at least 1: ``25%`` of 10 is 2."""
    if isinstance(value, str) and value.endswith("%"):
        return max(1, total * int(value[:-1]) // 100)
    return max(1, int(value))


def gib(size: int) -> str:
    """Bytes as people read them: ``24 GiB``, ``11.9 GiB``, ``640 MiB``, ``2 KiB``."""
    if size < 2**20:
        return f"{size / 2**10:.0f} KiB"
    if size < 2**30:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / 2**30:.1f}".removesuffix(".0") + " GiB"


def number_as_text(value: object) -> object:
    """Numbers as the text they are written as; anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _count_or_percent(value: int | str) -> int | str:
    fits = PERCENT.fullmatch(value) if isinstance(value, str) else 1 <= value <= 10000
    if not fits:
        raise ValueError(f"{value!r} is {_COUNT}")
    return value


def int_or_text(cel: str, message: str, longest: int, description: str = "") -> WithJsonSchema:
    """The schema of a field that takes a number or a text of at most ``longest`` characters."""
    made = {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "maxLength": longest,
        VALIDATIONS: [{"rule": cel, "message": message, "reason": "FieldValueInvalid"}],
    }
    return WithJsonSchema(made | ({"description": description} if description else {}))


Quantity = Annotated[
    str,
    BeforeValidator(number_as_text),
    Field(max_length=32),
    QUANTITY,
    int_or_text(
        f"type(self) == int ? self >= 0 : {QUANTITY.cel()}",
        QUANTITY.message,
        32,
        "A quantity: 24Gi is 24 * 2^30 bytes, 24G is 24e9.",
    ),
]

Amount = Annotated[
    str,
    BeforeValidator(number_as_text),
    Field(max_length=32),
    AMOUNT,
    int_or_text(f"type(self) == int ? self >= 0 : {AMOUNT.cel()}", AMOUNT.message, 32),
]

Duration = Annotated[str, Field(min_length=1, max_length=32), DURATION]

Interval = Annotated[Duration, ABOVE_ZERO]

KeepAlive = Annotated[
    str,
    BeforeValidator(number_as_text),
    Field(min_length=1, max_length=32),
    KEEP_ALIVE,
    int_or_text(f"type(self) == int ? self == -1 : {KEEP_ALIVE.cel()}", KEEP_ALIVE.message, 32),
]

IntOrPercent = Annotated[
    int | str,
    AfterValidator(_count_or_percent),
    int_or_text(
        f"type(self) == int ? self >= 1 && self <= 10000 : self.matches('^{PERCENT.pattern}$')",
        _COUNT,
        32,
    ),
]
