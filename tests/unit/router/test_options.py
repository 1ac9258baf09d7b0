"""What clients may set, and what is set for them."""

from typing import Any

import pytest

from ollama_fleet.router.errors import Refusal
from ollama_fleet.router.options import Policy, admitted, with_defaults

STRIP, ALLOW, REFUSE = Policy(), Policy("Allow", "Allow"), Policy("Refuse", "Refuse")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    "fields",
    [
        CHAT,
        {**CHAT, "options": {"temperature": 0, "num_predict": 5}},
        {**CHAT, "options": {}},
        {**CHAT, "options": None},
        {**CHAT, "options": ["num_ctx"]},
        {**CHAT, "keep_alive": None},
        {**CHAT, "num_ctx": 5},  # means nothing there
    ],
)
def test_nothing_to_strip_is_the_same_object(fields: dict[str, Any]) -> None:
    assert admitted(fields, STRIP) is fields
    assert admitted(fields, REFUSE) is fields


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"options": {"num_ctx": 1, "seed": 2, "num_gpu": 0}}, {"options": {"seed": 2}}),
        ({"options": {"use_mmap": None}}, {"options": {}}),
        ({"keep_alive": "5m"}, {}),
        ({"keep_alive": 0}, {}),
        ({"keep_alive": -1, "options": {"numa": 1}, "raw": 1}, {"options": {}, "raw": 1}),
        ({"_debug_render_only": True}, {}),
    ],
)  # fmt: skip
def test_stripped(given: dict[str, Any], left: dict[str, Any]) -> None:
    fields = {**CHAT, **given}
    before = repr(fields)
    assert admitted(fields, STRIP) == {**CHAT, **left}
    assert repr(fields) == before


def test_allowed_is_all_but_what_shows_prompts() -> None:
    fields = {**CHAT, "options": {"num_ctx": 1}, "keep_alive": 0}
    assert admitted(fields, ALLOW) is fields
    assert admitted({**fields, "_debug_render_only": False}, ALLOW) == fields


@pytest.mark.parametrize(
    ("fields", "policy", "told"),
    [
        ({**CHAT, "options": {"num_gpu": 1, "num_ctx": 1}}, REFUSE, "here: num_ctx, num_gpu$"),
        ({**CHAT, "keep_alive": "5m"}, REFUSE, "keep_alive is not for clients"),
        ({"model": "m", "prompt": "", "keep_alive": 0}, STRIP, "unloaded by the fleet"),
        ({"model": "m", "keep_alive": 0.0}, STRIP, "unloaded by the fleet"),
        ({"model": "m", "keep_alive": "0"}, STRIP, "unloaded by the fleet"),
        ({"model": "m", "keep_alive": "-0m0.0s"}, STRIP, "unloaded by the fleet"),
        ({"model": "m", "messages": [], "keep_alive": "0s"}, STRIP, "unloaded by the fleet"),
    ],
)
def test_refused(fields: dict[str, Any], policy: Policy, told: str) -> None:
    with pytest.raises(Refusal, match=told) as refused:
        admitted(fields, policy)
    assert refused.value.status == 400


def test_loading_a_model_ahead_is_no_unloading() -> None:
    for keep_alive in (-1, "10m", "1h0m0s"):
        assert admitted({"model": "m", "keep_alive": keep_alive}, STRIP) == {"model": "m"}


DEFAULTS = {"temperature": 0.2, "top_p": 0.9, "num_predict": 64, "seed": 7, "stop": ["END"]}
IN_OPENAI = {"temperature": 0.2, "top_p": 0.9, "max_tokens": 64, "seed": 7, "stop": ["END"]}


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in IN_OPENAI.items() if key != name}


@pytest.mark.parametrize(
    ("path", "given", "made"),
    [
        ("/api/chat", {}, {"options": DEFAULTS}),
        ("/api/generate", {"options": None}, {"options": DEFAULTS}),
        (
            "/api/chat",
            {"options": {"seed": 1, "temperature": None, "top_k": 3}},
            {"options": {**DEFAULTS, "seed": 1, "top_k": 3}},
        ),
        ("/api/chat", {"options": [1]}, {"options": [1]}),
        ("/api/embed", {}, {}),
        ("/api/show", {}, {}),
        ("/v1/embeddings", {}, {}),
        ("/v1/chat/completions", {}, IN_OPENAI),
        ("/v1/completions", {"temperature": 0, "stop": None}, {**IN_OPENAI, "temperature": 0}),
        ("/v1/completions", {"Top_P": 1}, {**_without("top_p"), "Top_P": 1}),
        (
            "/v1/chat/completions",
            {"max_completion_tokens": 5},
            {**_without("max_tokens"), "max_completion_tokens": 5},
        ),
        ("/v1/responses", {}, {"temperature": 0.2, "top_p": 0.9, "max_output_tokens": 64}),
        (
            "/v1/messages",
            {"max_tokens": 5},
            {"max_tokens": 5, "temperature": 0.2, "top_p": 0.9, "stop_sequences": ["END"]},
        ),
    ],
)  # fmt: skip
def test_defaults(path: str, given: dict[str, Any], made: dict[str, Any]) -> None:
    fields = {"model": "m", **given}
    before = repr(fields)
    assert with_defaults(fields, DEFAULTS, path.encode()) == {"model": "m", **made}
    assert repr(fields) == before


def test_defaults_that_add_nothing_are_the_same_object() -> None:
    native = {"model": "m", "options": {**DEFAULTS, "seed": 1}}
    assert with_defaults(native, DEFAULTS, b"/api/chat") is native
    assert with_defaults(native, {}, b"/api/chat") is native
    openai = {"model": "m", **IN_OPENAI}
    assert with_defaults(openai, DEFAULTS, b"/v1/completions") is openai
