"""Counts, from the end of an answer."""

import pytest

from ollama_fleet.router.usage import tail_of, usage_of


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (b'{"prompt_eval_count":26,"prompt_eval_duration":9,"eval_count":290}', (26, 290)),
        (b'{"done":true,"eval_count":290,"eval_duration":4}\n', (None, 290)),
        (b'{"embeddings":[[0.1]],"prompt_eval_count":8}', (8, None)),
        (b'"usage":{"prompt_tokens":7,"completion_tokens": 12,"total_tokens":19}}', (7, 12)),
        (b'{"prompt_tokens":7,"completion_tokens":12}}\n\ndata: [DONE]\n\n', (7, 12)),
        (b'"usage":{"input_tokens":3,"output_tokens":4}}', (3, 4)),
        (b'"eval_count":null,"prompt_eval_count":8', (8, None)),
        (b'"usage":{"prompt_tokens":7', (7, None)),
        (b'"content":"\\"eval_count\\":99"', (None, None)),
        (b'{"response":"hi","done":false}', (None, None)),
        (b"", (None, None)),
    ],
)  # fmt: skip
def test_usage(tail: bytes, usage: tuple[int | None, int | None]) -> None:
    assert usage_of(tail) == usage


def test_the_end_may_come_in_pieces() -> None:
    assert tail_of((b"", b'{"eval_c', b'ount":2}', b"0")) == b'{"eval_count":2}0'
    assert tail_of((b"", b"", b"", b"x" * 5000)) == b"x" * 4096
