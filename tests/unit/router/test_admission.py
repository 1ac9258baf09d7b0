"""What a client pays in a queue, and when the rest is told to come back."""

import pytest

from ollama_fleet.router.admission import FIRST_GUESS, UNKNOWN_RETRY, Line
from ollama_fleet.router.call import Call
from ollama_fleet.router.errors import Api
from ollama_fleet.router.framing import Request
from ollama_fleet.router.routes import Action, Route

REQUEST = Request(b"POST", b"/api/chat", 1, [])
ROUTE = Route(Action.RELAY, Api.OLLAMA, (b"POST",), b"/api/chat")


def call(
    tokens: tuple[int | None, int | None] = (None, None),
    *,
    estimate: float = 0.0,
    status: int = 200,
    attempts: int = 1,
    client: str = "team",
) -> Call:
    made = Call(REQUEST, ROUTE, "m", "m:latest", 0.0)
    made.tokens_in, made.tokens_out = tokens
    made.queued_as, made.estimate = client, estimate
    made.status, made.attempts = status, attempts
    return made


@pytest.mark.parametrize(
    ("over", "paid"),
    [
        (call((10, 20)), 50.0),
        (call((10, 20), estimate=100.0), 50.0),
        (call((8, None)), 8.0),
        (call(estimate=70.0), 70.0),
        (call(), FIRST_GUESS),
        (call(estimate=70.0, status=0), 70.0),
        (call(estimate=70.0, status=400), 0.0),
        (call(estimate=0.0, status=503), 0.0),
        (call(status=0, attempts=0), 0.0),
        (call((10, 20), client=""), 0.0),
    ],
    ids=[
        "no estimate", "too high an estimate", "an embedding", "an answer that tells nothing",
        "neither told nor estimated", "the client left", "an error", "a refusal", "never asked",
        "nobody",
    ],
)  # fmt: skip
def test_what_a_call_costs(over: Call, paid: float) -> None:
    line = Line(0.0)
    if over.estimate:
        line.fair.charge("team", 1.0, over.estimate)
    line.over(over, 1.0)
    line.fair.charge("rival", 1.0, paid)
    served = {name: client.served for name, client in line.fair._clients.items()}
    assert served.get("team", 0.0) == served.get("rival", 0.0)


def test_estimates_follow_what_calls_cost() -> None:
    line = Line(0.0)
    for _ in range(50):
        line.over(call((1000, 2000)), 1.0)
    assert line.typical == pytest.approx(5000, rel=0.01)


def test_when_to_come_back() -> None:
    line = Line(0.0)
    assert line.retry_after(10.0) == UNKNOWN_RETRY
    for second in range(2, 62, 2):
        line.over(call((1, 1)), second)
    assert line.retry_after(60.0) == 2
    assert line.retry_after(60.0 + 3600) == 600
