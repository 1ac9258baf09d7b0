import pytest

from ollama_fleet.mirror.ranges import UnsatisfiableError, asked_range

ETAG = '"sha256:a"'


@pytest.mark.parametrize(
    ("header", "if_range", "expected"),
    [
        (None, None, None),
        ("bytes=0-9", None, (0, 10)),
        ("bytes=0-9", ETAG, (0, 10)),
        ("bytes=0-9", '"other"', None),
        ("bytes=90-", None, (90, 100)),
        ("bytes=90-1000", None, (90, 100)),
        ("bytes=-10", None, (90, 100)),
        ("bytes=-1000", None, (0, 100)),
        ("bytes=9-5", None, None),
        ("bytes=-", None, None),
        ("bytes=0-9,20-29", None, None),
        ("lines=0-9", None, None),
    ],
)
def test_ranges(header: str | None, if_range: str | None, expected: tuple[int, int] | None) -> None:
    assert asked_range(header, if_range, ETAG, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_beyond_the_end(header: str) -> None:
    with pytest.raises(UnsatisfiableError):
        asked_range(header, None, ETAG, 100)
