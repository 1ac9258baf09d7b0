"""What is learned from calls that are over."""

from typing import Any

import pytest

from ollama_fleet.router.call import Call
from ollama_fleet.router.choose import Decision
from ollama_fleet.router.estimates import Estimates, load_seconds_of
from ollama_fleet.router.framing import Request
from ollama_fleet.router.routes import route
from tests.unit.router.servers import M, server


def call(path: bytes = b"/api/chat", **facts: Any) -> Call:
    """Asked at 10, begun at 14, over at 20."""
    request = Request(b"POST", path, 1, [])
    made = Call(request, route(b"POST", path), M, M, 1.0)
    made.asked, made.began, made.ended, made.status = 10.0, 14.0, 20.0, 200
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def after(*calls: Call) -> tuple[float, float]:
    estimates = Estimates({M: 100.0}, {M: 50.0})
    for one in calls:
        estimates.learn(one)
    return estimates.load(M, 0), estimates.answer(M)


@pytest.mark.parametrize(
    ("facts", "load", "answer"),
    [
        ({"streamed": True}, 100.0, 50 - 0.2 * 44),
        ({"decision": Decision(None, "Resident", 1, 1, 1)}, 100.0, 50 - 0.2 * 40),
        ({"decision": Decision(None, "Loading", 1, 1, 1)}, 100.0, 50.0),
        ({"loads": True, "streamed": True}, 100 - 0.2 * 96, 50.0),
        ({"loads": True, "load_seconds": 3.0}, 100 - 0.2 * 97, 50.0),
        ({"loads": True}, 100.0, 50.0),
        ({"loads": True, "load_seconds": 0.05}, 100.0, 50.0),
        ({"status": 500, "streamed": True}, 100.0, 50.0),
        ({"reason": "ClientLeft", "streamed": True}, 100.0, 50.0),
    ],
)
def test_learned(facts: dict[str, Any], load: float, answer: float) -> None:
    assert after(call(**facts)) == pytest.approx((load, answer))


def test_show_teaches_nothing() -> None:
    assert after(call(b"/api/show", decision=Decision(None, "LeastLoad", 1, 1, 1))) == (100.0, 50.0)


def test_until_something_was_seen() -> None:
    estimates = Estimates()
    assert (estimates.load(M, 5_000_000_000), estimates.answer(M)) == (7.0, 5.0)
    estimates.learn(call(streamed=True))
    assert estimates.answer(M) == 6.0


def test_a_slow_server_is_told_by_its_time_per_token() -> None:
    estimates = Estimates()
    quick, slow = server("quick"), server("slow")
    for _ in range(40):
        estimates.learn(call(streamed=True, server=quick, tokens_out=100))
        estimates.learn(call(streamed=True, server=slow, tokens_out=25))
        estimates.learn(call(streamed=True, server=slow, tokens_out=2))  # says nothing
    assert slow.load.pace / quick.load.pace == pytest.approx(4.0, abs=0.2)


def test_a_slow_server_is_told_by_its_loads() -> None:
    estimates, slow = Estimates({M: 2.0}), server("slow")
    estimates.learn(call(loads=True, load_seconds=8.0, server=slow))
    assert slow.load.pace == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("tail", "seconds"),
    [
        (b'"done":true,"total_duration":9,"load_duration":2500000000,"eval_count":3}', 2.5),
        (b'{"load_duration": 1000000000}', 1.0),
        (b'{"content":"\\"load_duration\\":7"}', 0.0),
        (b"", 0.0),
    ],
)
def test_the_load_that_an_answer_tells(tail: bytes, seconds: float) -> None:
    assert load_seconds_of(tail) == seconds
