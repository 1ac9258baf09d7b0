import pytest

from ollama_fleet.ollama.registry import retry_after_seconds

DATE = "Sun, 01 Mar 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("Sun, 01 Mar 2026 12:02:00 GMT", 120.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("9" * 400, 86400.0),
        ("Sun, 01 Mar 9999 12:00:00 GMT", 86400.0),
    ],
)
def test_how_long_to_wait(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, DATE) == seconds


@pytest.mark.parametrize("date", [None, "Sun, 01 Mar 2026 12:00:00 -0000"])
def test_without_a_date_to_count_from(date: str | None) -> None:
    assert retry_after_seconds("Sun, 01 Mar 2020 12:02:00 GMT", date) in (0.0, None)
