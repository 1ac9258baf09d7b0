"""The Python package `anthropic`, as people use it, in front of a router."""

from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from dev.ollama.library import answer
from tests.component.clients.conftest import CALLER, CHAT, SHORT, Fleet
from tests.component.clients.test_ollama_python import WEATHER

HI: Any = [{"role": "user", "content": "hi"}]
FUNCTION: Any = WEATHER["function"]
TOOLS: Any = [{"name": FUNCTION["name"], "input_schema": FUNCTION["parameters"]}]


@pytest.fixture
def client(fleet: Fleet) -> Anthropic:
    return Anthropic(base_url=fleet.url, api_key="none", max_retries=0)


def text(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_messages(client: Anthropic) -> None:
    whole = client.messages.create(model=CHAT, max_tokens=400, messages=HI)
    assert (text(whole), whole.stop_reason) == (answer(CHAT), "end_turn")
    with client.messages.stream(model=CHAT, max_tokens=400, messages=HI) as stream:
        assert stream.get_final_text() == answer(CHAT)


def test_tools(client: Anthropic) -> None:
    made = client.messages.create(model=CALLER, max_tokens=100, messages=HI, tools=TOOLS)
    (call,) = (block for block in made.content if block.type == "tool_use")
    assert (call.name, call.input, made.stop_reason) == (
        "get_weather",
        {"city": "Paris"},
        "tool_use",
    )


def test_a_name_for_a_model(client: Anthropic) -> None:
    told = client.messages.create(model="assistant", max_tokens=5, messages=HI)
    assert (told.model, text(told), told.stop_reason) == (CHAT, SHORT, "max_tokens")


@pytest.mark.parametrize(
    ("model", "more", "error", "told"),
    [
        ("no-such", {}, anthropic.NotFoundError, "model 'no-such' not found"),
        ("x:cloud", {}, anthropic.PermissionDeniedError, "runs in a cloud"),
        (CHAT, {"Options": {}}, anthropic.BadRequestError, "the key 'Options' is ambiguous"),
        ("later", {}, anthropic.ServiceUnavailableError, "no server has a model that 'later'"),
    ],
)
def test_errors(
    client: Anthropic, model: str, more: Any, error: type[anthropic.APIStatusError], told: str
) -> None:
    with pytest.raises(error) as refused:
        client.messages.create(model=model, max_tokens=5, messages=HI, extra_body=more)
    assert told in refused.value.message
    assert isinstance(refused.value.body, dict)
    assert told in refused.value.body["error"]["message"]


def test_tokens_are_not_counted_ahead(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model=CHAT, messages=HI)
