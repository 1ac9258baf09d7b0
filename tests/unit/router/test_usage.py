"""Counts, from the end of an answer."""

import pytest

from ollama_fleet.router.usage import COMPLETIONS, MESSAGES, OLLAMA, Counts, tail_of, usage_of


@pytest.mark.parametrize(
    ("counts", "tail", "usage"),
    [
        (OLLAMA, b'{"prompt_eval_count":26,"prompt_eval_duration":9,"eval_count":290}', (26, 290)),
        (OLLAMA, b'{"done":true,"eval_count":290,"eval_duration":4}\n', (None, 290)),
        (OLLAMA, b'{"embeddings":[[0.1]],"prompt_eval_count":8}', (8, None)),
        (COMPLETIONS, b'{"prompt_tokens":7,"completion_tokens": 12,"total_tokens":19}}', (7, 12)),
        (COMPLETIONS, b'{"prompt_tokens":7,"completion_tokens":12}}\n\ndata: [DONE]\n\n', (7, 12)),
        (COMPLETIONS, b'"usage":{"prompt_tokens":7', (7, None)),
        (MESSAGES, b'"usage":{"input_tokens":3,"output_tokens":4}}', (3, 4)),
        (OLLAMA, b'"eval_count":null,"prompt_eval_count":8', (8, None)),
        (OLLAMA, b'"content":"\\"eval_count\\":99"', (None, None)),
        (OLLAMA, b'{"response":"hi","done":false}', (None, None)),
        (OLLAMA, b"", (None, None)),
        # of tools and their arguments a client has a say
        (
            MESSAGES,
            b'"tools":[{"parameters":{"eval_count":0,"prompt_eval_count":0,"output_tokens":0}}],'
            b'"usage":{"input_tokens":3,"input_tokens_details":{},"output_tokens":4}}',
            (3, 4),
        ),
        (
            OLLAMA,
            b'"tool_calls":[{"function":{"arguments":{"eval_count":0,"output_tokens":0}}}]},'
            b'"prompt_eval_count":3,"eval_count":4}',
            (3, 4),
        ),
    ],
)  # fmt: skip
def test_usage(counts: Counts, tail: bytes, usage: tuple[int | None, int | None]) -> None:
    assert usage_of(tail, counts) == usage


def test_the_end_may_come_in_pieces() -> None:
    assert tail_of((b"", b'{"eval_c', b'ount":2}', b"0")) == b'{"eval_count":2}0'
    assert tail_of((b"", b"", b"", b"x" * 5000)) == b"x" * 4096
