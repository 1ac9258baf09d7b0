"""The Python package `openai`, as people use it, in front of a router."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from dev.ollama.library import answer
from tests.component.clients.conftest import CALLER, CHAT, EMBED, SHORT, Fleet
from tests.component.clients.test_ollama_python import WEATHER

HI: Any = [{"role": "user", "content": "hi"}]
TOOLS: Any = [WEATHER]


@pytest.fixture
def client(fleet: Fleet) -> OpenAI:
    return OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0)


def test_chat(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=CHAT, messages=HI)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (
        answer(CHAT),
        "stop",
    )
    with client.chat.completions.create(model=CHAT, messages=HI, stream=True) as stream:
        pieces = [piece.choices[0].delta.content or "" for piece in stream]
    assert "".join(pieces) == answer(CHAT)


def test_completions_and_responses(client: OpenAI) -> None:
    assert client.completions.create(model="assistant", prompt="hi").choices[0].text == SHORT
    assert client.responses.create(model="assistant", input="hi").output_text == SHORT
    with client.responses.create(model="assistant", input="hi", stream=True) as stream:
        assert [event.type for event in stream][-1] == "response.completed"


def test_tools(client: OpenAI) -> None:
    made = client.chat.completions.create(model=CALLER, messages=HI, tools=TOOLS)
    assert made.choices[0].finish_reason == "tool_calls"
    call = (made.choices[0].message.tool_calls or [])[0]
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"Paris"}')


def test_embeddings(client: OpenAI) -> None:
    made = client.embeddings.create(model=EMBED, input=["one", "two"])
    assert [len(one.embedding) for one in made.data] == [64, 64]


def test_a_name_for_a_model(client: OpenAI) -> None:
    told = client.chat.completions.create(model="assistant", messages=HI)
    assert (told.model, told.choices[0].message.content) == (CHAT, SHORT)
    longer = client.chat.completions.create(model="assistant", messages=HI, max_tokens=6)
    assert longer.usage
    assert longer.usage.completion_tokens == 6
    assert {one.id for one in client.models.list()} == {"assistant", CALLER, CHAT, EMBED}
    assert client.models.retrieve("assistant").id == "assistant"


@pytest.mark.parametrize(
    ("model", "more", "error", "told"),
    [
        ("no-such", {}, openai.NotFoundError, "model 'no-such' not found"),
        ("gpt-oss:120b-cloud", {}, openai.PermissionDeniedError, "runs in a cloud"),
        (CHAT, {"Model": "x"}, openai.BadRequestError, "the key 'Model' is ambiguous"),
        ("later", {}, openai.InternalServerError, "no server has a model that 'later' stands for"),
    ],
)
def test_errors(
    client: OpenAI, model: str, more: Any, error: type[openai.APIStatusError], told: str
) -> None:
    with pytest.raises(error) as refused:
        client.chat.completions.create(model=model, messages=HI, extra_body=more)
    assert told in refused.value.message
    assert isinstance(refused.value.body, dict)
    assert told in refused.value.body["message"]


def test_what_is_not_there(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'no-such' not found"):
        client.models.retrieve("no-such")
    with pytest.raises(openai.NotFoundError, match="page not found"):
        client.files.list()
