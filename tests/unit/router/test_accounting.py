"""Counts, from the end of an answer."""

from ollama_fleet.router.accounting import KEPT_SECONDS, OTHER, Accounting
from ollama_fleet.router.breaker import Breaker
from ollama_fleet.router.call import Call
from ollama_fleet.router.framing import Request
from ollama_fleet.router.routes import route
from ollama_fleet.router.snapshot import Endpoint, Load, Server


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
