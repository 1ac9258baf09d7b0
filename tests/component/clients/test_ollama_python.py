"""The Python package `ollama`, as people use it, in front of a router."""

from typing import Any

import pytest
from ollama import Client, Options, ResponseError

from dev.ollama.library import answer
from tests.cluster.waiting import eventually
from tests.component.clients.conftest import CALLER, CHAT, EMBED, SHORT, Fleet

HI = [{"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def client(fleet: Fleet) -> Client:
    return Client(host=fleet.url, trust_env=False)


def test_chat(client: Client) -> None:
    whole = client.chat(CHAT, HI)
    assert (whole.done, whole.message.content) == (True, answer(CHAT))
    pieces = list(client.chat(CHAT, HI, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == answer(CHAT)
    assert [piece.done for piece in pieces[-2:]] == [False, True]


def test_generate(client: Client) -> None:
    assert client.generate(CHAT, "hi", options=Options(num_predict=2)).response == "I am"
    assert client.generate(CHAT).done_reason == "load"


def test_tools(client: Client) -> None:
    (call,) = client.chat(CALLER, HI, tools=[WEATHER]).message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    streamed = [
        call
        for piece in client.chat(CALLER, HI, tools=[WEATHER], stream=True)
        for call in piece.message.tool_calls or ()
    ]
    assert [call.function.arguments for call in streamed] == [{"city": "Paris"}]


def test_embeddings(client: Client) -> None:
    both = client.embed(EMBED, ["one", "two"]).embeddings
    assert [len(one) for one in both] == [64, 64]
    assert len(client.embeddings(EMBED, "one").embedding) == 64


def test_a_name_for_a_model(client: Client) -> None:
    told = client.chat("assistant", HI)
    assert (told.model, told.message.content, told.done_reason) == (CHAT, SHORT, "length")
    assert client.chat("assistant", HI, options={"num_predict": 2}).message.content == "I am"
    shown, real = client.show("assistant"), client.show(CHAT)
    assert shown.details == real.details
    listed = {one.model: one.digest for one in client.list().models}
    assert set(listed) == {"assistant", CALLER, CHAT, EMBED}
    assert listed["assistant"] == listed[CHAT]


def test_no_option_of_a_client_reloads_a_model(client: Client, fleet: Fleet) -> None:
    client.chat(CHAT, HI, options={"num_predict": 1})
    # a model that is loaded anew gets a runner of its own
    before = fleet.server.log.count("starting runner")
    assert before
    told = client.chat(CHAT, HI, options={"num_ctx": 512, "num_predict": 3}, keep_alive=0)
    assert told.eval_count == 3
    direct = Client(host=fleet.server.url, trust_env=False)
    (resident,) = (one for one in direct.ps().models if one.model == CHAT)
    assert resident.context_length == 4096
    assert fleet.server.log.count("starting runner") == before


@pytest.mark.parametrize(
    ("call", "arguments", "status", "told"),
    [
        ("chat", ("no-such", HI), 404, "model 'no-such' not found"),
        ("generate", ("no-such", "hi"), 404, "model 'no-such' not found"),
        ("embed", ("no-such", "hi"), 404, 'model "no-such" not found, try pulling it first'),
        ("show", ("no-such",), 404, "model 'no-such' not found"),
        ("chat", ("later", HI), 503, "no server has a model that 'later' stands for: not-yet:1b"),
        ("chat", ("gpt-oss:120b-cloud", HI), 403, "runs in a cloud"),
        ("chat", ("evil.example/team/x", HI), 400, "without a registry's host"),
        ("pull", ("no-such",), 403, "models are installed here by ModelDistribution resources"),
        ("delete", (CHAT,), 403, "models are removed by ModelDistribution resources"),
        ("copy", (CHAT, "mine"), 403, "not by clients"),
        ("ps", (), 403, "shown to operators only"),
    ],
)
def test_errors(client: Client, call: str, arguments: Any, status: int, told: str) -> None:
    with pytest.raises(ResponseError) as refused:
        getattr(client, call)(*arguments)
    assert refused.value.status_code == status
    assert told in refused.value.error


def test_a_model_is_not_unloaded(client: Client, fleet: Fleet) -> None:
    client.generate(CHAT)
    with pytest.raises(ResponseError, match="unloaded by the fleet"):
        client.generate(CHAT, keep_alive=0)
    direct = Client(host=fleet.server.url, trust_env=False)
    assert CHAT in {one.model for one in direct.ps().models}


def test_operators_see_what_is_in_memory(client: Client, fleet: Fleet) -> None:
    client.generate(CHAT)
    operators = Client(host=fleet.operators_url, trust_env=False)

    def resident() -> bool:
        return CHAT in {one.model for one in operators.ps().models}

    eventually("the router has seen it", resident)
