from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from ollama_fleet.api.quantity import (
    Amount,
    Duration,
    Interval,
    IntOrPercent,
    KeepAlive,
    Quantity,
    bytes_of,
    count_of,
    gib,
    seconds_of,
)


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("0", 0),
        ("16", 16),
        (16, 16),
        ("16k", 16_000),
        ("16Ki", 16_384),
        ("24G", 24 * 10**9),
        ("24Gi", 24 * 2**30),
        ("1.5Gi", 3 * 2**29),
        (".5Gi", 2**29),
        ("0.1", 1),
        ("1500m", 2),
        ("2e3", 2000),
        ("2E3", 2000),
        ("25e-1", 3),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("8Ti", 8 * 2**40),
        (" 8Gi ", 8 * 2**30),
    ],
)
def test_bytes_of(quantity: str | int, size: int) -> None:
    assert bytes_of(quantity) == size


@pytest.mark.parametrize("text", ["", "24GB", "24 Gi", "-1", "Gi", "1e", "1.2.3Gi", "ten", "24gi"])
def test_bytes_of_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a quantity: write a number and a unit"):
        bytes_of(text)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("20s", 20.0),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("1h2m3s4ms", 3723.004),
        ("24h", 86400.0),
    ],
)
def test_seconds_of(duration: str, seconds: float) -> None:
    assert seconds_of(duration) == seconds


@pytest.mark.parametrize("text", ["", "20", "1d", "-5s", "5 s", "s", "1h 30m", "5sm"])
def test_seconds_of_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration: write 20s, 10m or 1h30m"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("value", "total", "count"),
    [
        (2, 10, 2),
        (20, 10, 20),
        ("25%", 10, 2),
        ("1%", 10, 1),
        ("100%", 10, 10),
        ("50%", 0, 1),
        ("3", 10, 3),
    ],
)
def test_count_of(value: int | str, total: int, count: int) -> None:
    assert count_of(value, total) == count


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 KiB"),
        (2048, "2 KiB"),
        (640 * 2**20, "640 MiB"),
        (24 * 2**30, "24 GiB"),
        (12_777_000_000, "11.9 GiB"),
        (2**30, "1 GiB"),
    ],
)
def test_gib(size: int, text: str) -> None:
    assert gib(size) == text


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        (Quantity, "24Gi", "24Gi"),
        (Quantity, 25769803776, "25769803776"),
        (Amount, "500m", "500m"),
        (Amount, 2, "2"),
        (Duration, "1h30m", "1h30m"),
        (Interval, "10ms", "10ms"),
        (KeepAlive, -1, "-1"),
        (KeepAlive, "30m", "30m"),
        (IntOrPercent, 3, 3),
        (IntOrPercent, "25%", "25%"),
    ],
)
def test_fields_read(kind: Any, given: object, read: object) -> None:
    assert TypeAdapter(kind).validate_python(given) == read


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (Quantity, "24GB", "'24GB' is not a quantity: write a number and a unit"),
        (Quantity, -1, "'-1' is not a quantity"),
        (Quantity, True, "valid string"),
        (Quantity, "500m", "is not a quantity"),
        (Amount, "two", "is not an amount"),
        (Duration, "600", "'600' is not a duration"),
        (Duration, "5s1m", "is not a duration"),
        (Interval, "0s", "'0s' is zero, which leaves no time at all"),
        (Interval, "0h0m", "is zero"),
        (KeepAlive, 300, "'300' is not a time to keep a model"),
        (IntOrPercent, 0, "0 is not a count or a share"),
        (IntOrPercent, "0%", "is not a count or a share"),
        (IntOrPercent, "2", "is not a count or a share"),
    ],
)
def test_fields_refuse(kind: Any, given: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(kind).validate_python(given)
