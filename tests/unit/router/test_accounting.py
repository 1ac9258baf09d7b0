"""Counts, from the end of an answer."""

import pytest

from ollama_fleet.router.accounting import KEPT_SECONDS, OTHER, Accounting, usage_of
from ollama_fleet.router.breaker import Breaker
from ollama_fleet.router.call import Call
from ollama_fleet.router.framing import Request
from ollama_fleet.router.routes import route
from ollama_fleet.router.snapshot import Endpoint, Load, Server


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


def call(server: str, model: str, reason: str = "", ended: float = 3.0) -> Call:
    request = Request(b"POST", b"/api/chat", 1, [])
    made = Call(request, route(b"POST", b"/api/chat"), model, model, 1.0)
    made.server = Server(Endpoint(server, "h", 1), Load(lambda: Breaker(3, 5, 60)))
    made.began, made.ended, made.status, made.reason = 2.0, ended, 200, reason
    return made


def counted(counts: Accounting) -> dict[str, list[str]]:
    return {name: list(server.models) for name, server in counts.servers.items()}


def test_answers_are_counted_by_server_and_model_and_failures_by_reason() -> None:
    counts = Accounting()
    for one in (call("a", "m"), call("a", "m"), call("b", "n"), call("b", "n", "BrokenStream")):
        counts.over(one)
    assert counted(counts) == {"a": ["m"], "b": ["n"]}
    assert sum(counts.servers["a"].models["m"].duration.counts) == 2
    assert counts.servers["b"].requests == {(b"/api/chat", 200): 1}
    assert counts.servers["b"].unfinished == {"BrokenStream": 1}
    nowhere = call("", "m", "NotReady")
    nowhere.server = None
    counts.over(nowhere)
    assert counts.rejected == {"NotReady": 1}


def test_what_left_is_dropped_after_a_while() -> None:
    counts = Accounting()
    for one in (call("a", "m"), call("a", "old"), call("gone", "m")):
        counts.over(one)
    counts.forget({"a"}, {"m"}, KEPT_SECONDS)
    assert counted(counts) == {"a": ["m", "old"], "gone": ["m"]}
    counts.forget({"a"}, {"m"}, KEPT_SECONDS + 10)
    assert counted(counts) == {"a": ["m"]}
    counts.over(call("gone", "m", ended=KEPT_SECONDS + 20))
    assert counted(counts) == {"a": ["m"], "gone": ["m"]}


def test_pairs_have_a_limit() -> None:
    counts = Accounting(max_pairs=2)
    for number in range(5):
        counts.over(call("a", f"m{number}"))
        counts.over(call("b", f"m{number}"))
    assert counted(counts) == {"a": ["m0", OTHER], "b": ["m0", OTHER]}
    assert sum(counts.servers["a"].models[OTHER].duration.counts) == 4
