"""What stays the same over the turns of a conversation, read from the body of a request."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

CHARACTERS: Final = 256
"""How much of a text counts. The beginning is what a server's cache of prompts can share."""

_SYSTEM: Final = ("system", "developer")


def conversation_key(model: str, fields: Mapping[str, Any]) -> int:
    """A number of 64 bits, the same in every router, for the model and the conversation's prefix:
    of chats what the system says and the first thing the user says, of other prompts how they
    begin."""
    text = "\0".join((model, *prefix_of(fields)))
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def prefix_of(fields: Mapping[str, Any]) -> tuple[str, str]:
    """What the system says and what the user says first, each cut short.

    `messages` are chats of Ollama, OpenAI and Anthropic (there `system` stands beside them), as is
    `input` in OpenAI's Responses (with `instructions`), where it may also be one text; `prompt` is
    a completion of Ollama (with `system`) or OpenAI. Whatever has another shape counts as empty:
    the request is still balanced, and the server says what is wrong with it.
    """
    told = _text(fields.get("system")) or _text(fields.get("instructions"))
    turns = fields.get("messages")
    if turns is None:
        turns = fields.get("input")
    if type(turns) is not list:
        return told, _text(turns) or _text(fields.get("prompt"))
    for turn in turns:
        if type(turn) is not dict:
            continue
        if turn.get("role") in _SYSTEM:
            told = told or _text(turn.get("content"))
        else:
            return told, _text(turn.get("content"))
    return told, ""


def _text(content: Any) -> str:
    """The beginning of a text, or of the first text among a list's parts."""
    if type(content) is str:
        return content[:CHARACTERS]
    if type(content) is list:
        for part in content:
            text = part.get("text") if type(part) is dict else part
            if type(text) is str:
                return text[:CHARACTERS]
    return ""
