"""Counts, from the end of an answer."""

import pytest

from ollama_fleet.router.accounting import Histogram, usage_of


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (b'{"prompt_eval_count":26,"prompt_eval_duration":9,"eval_count":290}', (26, 290)),
        (b'{"done":true,"eval_count":290,"eval_duration":4}\n', (None, 290)),
        (b'{"embeddings":[[0.1]],"prompt_eval_count":8}', (8, None)),
        (b'"usage":{"prompt_tokens":7,"completion_tokens": 12,"total_tokens":19}}', (7, 12)),
        (b'{"prompt_tokens":7,"completion_tokens":12}}\n\ndata: [DONE]\n\n', (7, 12)),
        (b'"usage":{"input_tokens":3,"output_tokens":4}}', (3, 4)),
        (b'"content":"\\"eval_count\\":99"', (None, None)),
        (b'{"response":"hi","done":false}', (None, None)),
        (b"", (None, None)),
    ],
)  # fmt: skip
def test_usage(tail: bytes, usage: tuple[int | None, int | None]) -> None:
    assert usage_of(tail) == usage


def test_buckets_include_their_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1]
    assert histogram.total == 12.0
