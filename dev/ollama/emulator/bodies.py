"""Reading request bodies as Go's JSON decoder does: keys without regard to case, the last one
wins, what follows the first value is not looked at, and errors in Go's words."""

from __future__ import annotations

import json
from typing import Any

import orjson

from dev.ollama.emulator.generation import Refused

_decoder = json.JSONDecoder()
_GO_NAMES = {
    dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number",
}  # fmt: skip
_FIELDS: dict[str, tuple[type, ...]] = {
    "model": (str,), "name": (str,), "prompt": (str,), "source": (str,), "destination": (str,),
    "system": (str,), "suffix": (str,), "template": (str,),
    "messages": (list,), "tools": (list,), "options": (dict,),
    "stream": (bool,), "insecure": (bool,), "raw": (bool,), "verbose": (bool,),
    "max_tokens": (int,),
}  # fmt: skip
_GO_TYPES = {str: "string", bool: "bool", dict: "map[string]interface {}", int: "int"}
_GO_LISTS = {"messages": "[]api.Message", "tools": "api.Tools"}


def read_body(content: bytes, go_type: str, empty: str = "missing request body") -> dict[str, Any]:
    """The body's object with lower-case keys; raises Refused."""
    try:
        value = orjson.loads(content)
    except ValueError:
        value = _first_value(content, empty)
    if not isinstance(value, dict):
        if value is None:
            return {}
        raise Refused(
            400,
            f"json: cannot unmarshal {_go_name(value)} into Go value of type {go_type}",
        )
    body = {key.lower(): item for key, item in value.items() if item is not None}
    for field, types in _FIELDS.items():
        item = body.get(field)
        if item is not None and (
            not isinstance(item, types) or (isinstance(item, bool) and bool not in types)
        ):
            wanted = _GO_LISTS.get(field) or _GO_TYPES[types[0]]
            raise Refused(
                400,
                f"json: cannot unmarshal {_go_name(item)} into Go struct field "
                f"{go_type.rpartition('.')[2]}.{field} of type {wanted}",
            )
    return body


def _first_value(content: bytes, empty: str) -> Any:
    text = content.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise Refused(400, empty)
    try:
        return _decoder.raw_decode(text)[0]
    except ValueError as error:
        position = getattr(error, "pos", 0)
        if text[0] not in '{["-0123456789tfn':
            message = f"invalid character {_go_quote(text[0])} looking for beginning of value"
        elif position >= len(text) or "Unterminated" in str(error):
            message = "unexpected EOF"
        else:
            message = f"invalid character {_go_quote(text[position])} {_looking_for(str(error))}"
        raise Refused(400, message) from None


def _looking_for(error: str) -> str:
    if "property name" in error:
        return "looking for beginning of object key string"
    if "':' delimiter" in error:
        return "after object key"
    if "',' delimiter" in error:
        return "after object key:value pair"
    return "looking for beginning of value"


def _go_quote(character: str) -> str:
    return "'\\''" if character == "'" else f"'{character}'"


def _go_name(value: Any) -> str:
    return _GO_NAMES.get(type(value), "value")
