import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.plan.shares import TOGETHER, shares


@pytest.mark.parametrize(
    ("limit", "demands", "given"),
    [
        (16, {}, {}),
        (16, {"a": 3}, {"a": 3}),
        (16, {"a": 30}, {"a": 16}),
        (16, {"a": 30, "b": 30}, {"a": 8, "b": 8}),
        # what one has no use for goes to the others
        (16, {"a": 30, "b": 2, "c": 30}, {"a": 7, "b": 2, "c": 7}),
        (16, {"a": 30, "b": 1, "c": 30}, {"a": 8, "b": 1, "c": 7}),
        # fewer than two for each: the first in order, two each
        (8, dict.fromkeys("abcdefghi", 5), dict(zip("abcdefghi", [2] * 4 + [0] * 5, strict=True))),
        (
            8,
            {"a": 1} | dict.fromkeys("bcdefghi", 5),
            dict(zip("abcdefghi", [1, 2, 2, 2, 1, 0, 0, 0, 0], strict=True)),
        ),
        (
            8,
            dict.fromkeys("abcdefgh", 5),
            dict(zip("abcdefgh", [2] * 4 + [0] * 4, strict=True)),
        ),
        (8, dict.fromkeys("abcde", 5), {"a": 2, "b": 2, "c": 2, "d": 2, "e": 0}),
        (8, dict.fromkeys("abcd", 5), dict.fromkeys("abcd", 2)),
        (2, {"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 0}),
    ],
)
def test_shares(limit: int, demands: dict[str, int], given: dict[str, int]) -> None:
    assert shares(limit, demands, sorted(demands)) == given


@given(st.integers(0, 40), st.dictionaries(st.text("abcdef", min_size=1), st.integers(0, 20)))
def test_all_is_given_and_nobody_is_worse_off_than_need_be(
    limit: int, demands: dict[str, int]
) -> None:
    parts = shares(limit, demands, sorted(demands))
    assert sum(parts.values()) == min(limit, sum(demands.values()))
    for one, part in parts.items():
        assert 0 <= part <= demands[one]
        if part < demands[one]:
            apart = 1 if TOGETHER * len(parts) <= limit else TOGETHER
            assert part >= max(parts.values()) - apart
