"""The OpenAPI document, out of the table of calls and the shapes on the wire."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ollama_fleet import __version__
from ollama_fleet.console import wire
from ollama_fleet.console.calls import CALLS, REFUSALS, REQUIRED, Answer, Call, Parameter

_REF = "#/components/schemas/{model}"
_ABOUT = """How people and programs see and drive a fleet. Everything that changes something becomes
a custom resource, so kubectl, Git and this API see one truth. Every error is `{"error":
"<sentence>"}`; times are RFC 3339 in UTC; ids are opaque, and stable for the life of the thing.

Send a Kubernetes bearer token. What RBAC lets its owner do with OllamaNodes and ModelDistributions
is what can be seen and done here."""


def document() -> dict[str, Any]:
    """The document, as `GET /openapi.json` gives it."""
    shapes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (wire.Error, "serialization"),
        (wire.Event, "serialization"),
    ]
    paths: dict[str, Any] = {}
    for call in CALLS:
        if call.takes is not None:
            shapes.append((call.takes, "validation"))
        shapes += [(one.shape, "serialization") for one in call.answers.values() if one.shape]
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    _, schemas = models_json_schema(list(dict.fromkeys(shapes)), ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ollama-fleet",
            "version": __version__,
            "description": _ABOUT.replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A Kubernetes token, such as `kubectl create token` makes.",
                }
            },
        },
    }


def _operation(call: Call) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": call.handler,
        "summary": call.about.partition(". ")[0].removesuffix("."),
        "description": call.about,
        "responses": {str(status): _answer(one) for status, one in call.answers.items()}
        | {str(status): _refusal(status) for status in call.statuses},
    }
    if call.parameters:
        made["parameters"] = [_parameter(call, one) for one in call.parameters]
    if call.takes is not None:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(call.takes)}},
        }
    return made


def _parameter(call: Call, one: Parameter) -> dict[str, Any]:
    required = one.place == "path" or (call.path, one.name) in REQUIRED
    return {
        "name": one.name,
        "in": one.place,
        "required": required,
        "description": one.about,
        "schema": dict(one.schema),
    }


def _answer(one: Answer) -> dict[str, Any]:
    if one.stream:
        return {
            "description": one.about,
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    if one.shape is None:
        return {"description": one.about}
    schema = {"type": "array", "items": _ref(one.shape)} if one.many else _ref(one.shape)
    return {"description": one.about, "content": {"application/json": {"schema": schema}}}


def _refusal(status: int) -> dict[str, Any]:
    return {
        "description": REFUSALS[status],
        "content": {"application/json": {"schema": _ref(wire.Error)}},
    }


def _ref(shape: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=shape.__name__)}
