"""A JSON body and the model it asks for, read only where every server would read the same."""

import json
from typing import Any, Final, NamedTuple

import orjson

from ollama_fleet.router.errors import Refusal
from ollama_fleet.router.options import WATCHED

_KEYS: Final = WATCHED | {"model", "name"}
_SELDOM: Final = _KEYS - {"model"}
_USUAL: Final = _KEYS | {
    "format", "input", "max_tokens", "messages", "metadata", "prompt", "seed", "stop", "stream",
    "stream_options", "system", "temperature", "think", "tool_choice", "tools", "top_p",
}  # fmt: skip
"""Keys that need no second look."""
_LONGEST_NAME: Final = 1024
"""Characters of a model's name; Ollama's own longest is 600. Names are remembered."""
_LARGE: Final = 1 << 20
_MOST_VALUES: Final = 1_000_000
"""Values in a large body. Each takes some 100 bytes once read, however short it is written."""
_TOO_DEEP: Final = "the JSON is nested too deeply"
_KEY = "looking for beginning of object key string"
_GO_PHRASES = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": _KEY,
    "Illegal trailing comma before end of object": _KEY,
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}
_GO_KINDS = {bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


class Body(NamedTuple):
    """A body that was read: the model's name as the client wrote it, and every field."""

    name: str
    fields: dict[str, Any]


def read_body(body: bytes, *, may_use_name: bool = False) -> Body:
    """Parse a request's body, once; `name` counts as the model too where `may_use_name`.

    Ollama matches keys without regard to case; of two it takes the last one, or both. So a body
    that has a key that counts here twice, or in another spelling, is refused.
    Raises `Refusal` (400).
    """
    if len(body) > _LARGE and _values_at_most(body) > _MOST_VALUES:
        raise _refused(f"the JSON holds more than {_MOST_VALUES} values")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        deep = error.msg == "depth limit exceeded"
        raise _refused(_TOO_DEEP if deep else _malformed(body)) from None
    if type(value) is not dict:
        kind = _GO_KINDS.get(type(value), "string")
        raise _refused(f"json: cannot unmarshal {kind} into a request: send a JSON object")
    if not _USUAL.issuperset(value):
        _refuse_spellings(value)
    if _may_repeat(body, value):
        _refuse_repeats(body)
    name = value.get("model")
    if may_use_name and (name is None or name == ""):
        name = value.get("name")
    if name is None or name == "":
        raise _refused("model is required")
    if type(name) is not str:
        kind = _GO_KINDS.get(type(name), "value")
        raise _refused(f"json: cannot unmarshal {kind} into the field model of type string")
    if len(name) > _LONGEST_NAME:
        raise _refused("invalid model name")
    return Body(name, value)


def write_body(fields: dict[str, Any]) -> bytes:
    """The bytes of a body whose fields have changed; raises `Refusal` (400)."""
    try:
        return orjson.dumps(fields)
    except orjson.JSONEncodeError:  # it is read to a greater depth than written
        raise _refused(_TOO_DEEP) from None


def _values_at_most(body: bytes) -> int:
    """Every value but the first follows one of these."""
    return body.count(b",") + body.count(b"[") + body.count(b":")


def _refuse_spellings(fields: dict[str, Any]) -> None:
    for key in fields:
        # ſ and the sign of the kelvin are the letters s and k to Ollama too
        if key not in _KEYS and key.casefold() in _KEYS:
            raise _refused(f"the key {key!r} is ambiguous: write it in lower case")


def _may_repeat(body: bytes, fields: dict[str, Any]) -> bool:
    """Whether a key that counts might be there twice; cheap, and true too often."""
    if body.count(b'"model"') > 1:
        return True
    if not _SELDOM.isdisjoint(fields):
        for key in _SELDOM.intersection(fields):
            if body.count(b'"%s"' % key.encode()) > 1:
                return True
    # A key can be spelled with escapes. One byte is looked for many times faster than five.
    return body.find(b"\\") >= 0 and body.find(b"\\u00") >= 0


def _refuse_repeats(body: bytes) -> None:
    outermost: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        # Objects close from the inside out: the last one kept is the body itself.
        outermost[:] = pairs

    try:
        # a number's digits mean nothing here, and thousands of them would be refused
        json.loads(body, object_pairs_hook=keep, parse_int=str)
    except RecursionError:
        raise _refused(_TOO_DEEP) from None
    keys = [key for key, _ in outermost]
    for key in sorted(_KEYS):
        if keys.count(key) > 1:
            raise _refused(f"the key {key!r} stands twice: write it once")


def _malformed(body: bytes) -> str:
    """What Ollama says of a body that is no JSON, where it can be told."""
    if not body.strip():
        return "missing request body"
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:4]:
        return "send JSON as UTF-8 without a byte order mark"
    try:
        text = body.decode()
        json.loads(text, parse_int=str)
    except UnicodeDecodeError:
        return "send JSON as UTF-8"
    except RecursionError:
        return _TOO_DEEP
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return "send one JSON value: there is more after the first"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            return "unexpected EOF"
        found = text[error.pos]
        if error.msg.startswith("Illegal trailing comma"):  # which stands at the comma
            found = text[error.pos + 1 :].lstrip()[0]
        shown = f"'{found}'" if found.isprintable() and found != "'" else ascii(found)
        return f"invalid character {shown} {_GO_PHRASES.get(error.msg, 'in JSON')}"
    return "the JSON holds a number or nesting that JSON does not have"


def _refused(sentence: str) -> Refusal:
    return Refusal(400, sentence, reason="Body")
