"""What stays the same over the turns of a conversation."""

from typing import Any

import pytest

from ollama_fleet.router.conversation import CHARACTERS, conversation_key, prefix_of


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


SYSTEM = said("system", "Be brief.")
HI, HELLO, MORE = said("user", "Hi"), said("assistant", "Hello"), said("user", "And now?")
PARTS = [
    {"type": "image_url", "image_url": {"url": "data:"}},
    {"type": "text", "text": "Hi"},
    {"type": "text", "text": "there"},
]


@pytest.mark.parametrize(
    ("fields", "prefix"),
    [
        ({"messages": [SYSTEM, HI]}, ("Be brief.", "Hi")),
        ({"messages": [SYSTEM, HI, HELLO, MORE]}, ("Be brief.", "Hi")),
        ({"messages": [said("developer", "Be brief."), HI]}, ("Be brief.", "Hi")),
        ({"messages": [HI, HELLO, SYSTEM]}, ("", "Hi")),
        ({"messages": [said("user", PARTS)]}, ("", "Hi")),
        ({"system": "Be brief.", "messages": [HI, HELLO]}, ("Be brief.", "Hi")),
        (
            {"system": [{"text": "Be brief."}], "messages": [HI]},
            ("Be brief.", "Hi"),
        ),
        ({"instructions": "Be brief.", "input": "Hi"}, ("Be brief.", "Hi")),
        ({"input": [said("user", [{"type": "input_text", "text": "Hi"}]), HELLO]}, ("", "Hi")),
        ({"prompt": "Once upon a time"}, ("", "Once upon a time")),
        ({"prompt": "Hi", "system": "Be brief."}, ("Be brief.", "Hi")),
        ({"prompt": ["one", "two"]}, ("", "one")),
        ({"prompt": "x" * 1000}, ("", "x" * CHARACTERS)),
        ({"messages": [said("user", "x" * 1000)]}, ("", "x" * CHARACTERS)),
        # Whatever has no such shape.
        ({}, ("", "")),
        ({"messages": []}, ("", "")),
        ({"messages": None, "prompt": 7}, ("", "")),
        ({"messages": {"role": "user"}}, ("", "")),
        ({"messages": ["Hi", None, 7, HI]}, ("", "Hi")),
        ({"messages": [said("user", [])]}, ("", "")),
        ({"messages": [said("user", [{"text": 7}, 8])]}, ("", "")),
    ],
)
def test_the_prefix(fields: dict[str, Any], prefix: tuple[str, str]) -> None:
    assert prefix_of(fields) == prefix


def test_a_key_is_the_same_in_every_router_and_another_for_what_differs() -> None:
    one = conversation_key("m:latest", {"messages": [SYSTEM, HI]})
    assert one == 4789897479783910781
    assert one == conversation_key("m:latest", {"messages": [SYSTEM, HI, HELLO, MORE]})
    others = [
        ("n:latest", {"messages": [SYSTEM, HI]}),
        ("m:latest", {"messages": [HI]}),
        ("m:latest", {"messages": [SYSTEM, MORE]}),
        ("m:latest", {"messages": [said("user", "\ud800")]}),
    ]
    assert len({one, *(conversation_key(*other) for other in others)}) == 5
