"""Reading requests: bodies, parameters, and where they come from. Raises `Refusal` alone."""

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from ollama_fleet.console.calls import Parameter
from ollama_fleet.console.patience import BODY
from ollama_fleet.console.refusal import Refusal

T = TypeVar("T", bound=BaseModel)

LARGEST = 256 * 1024
"""Bytes of a body."""


async def body_of(request: Request, shape: type[T]) -> T:
    """The body; raises `Refusal` (400, 413). Whatever its Content-Type says it is read as JSON, as
    Ollama does."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY):
            async for chunk in request.stream():
                size += len(chunk)
                if size > LARGEST:
                    raise Refusal(413, f"the body is longer than {LARGEST // 1024} KiB")
                parts.append(chunk)
    except TimeoutError:
        raise Refusal(400, f"the body has not come within {BODY:g} s") from None
    except ClientDisconnect:
        raise Refusal(400, "the body ends early") from None
    try:
        return shape.model_validate_json(b"".join(parts))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise Refusal(400, f"{where}: {told}" if where else told) from None


def text_of(request: Request, name: str, default: str | None = None) -> str | None:
    """A parameter of the query; raises `Refusal` (400) where it is there twice or is too long."""
    given = request.query_params.getlist(name)
    if len(given) > 1:
        raise Refusal(400, f"{name} is there {len(given)} times: give it once")
    if given and len(given[0]) > 512:
        raise Refusal(400, f"{name} is longer than 512 characters")
    return given[0] if given else default


def choice_of(request: Request, parameter: str, choices: tuple[str, ...]) -> str | None:
    """The same, where only some texts are right."""
    given = text_of(request, parameter)
    if given is not None and given not in choices:
        raise Refusal(400, f"{parameter} is none of {', '.join(choices)}")
    return given


def count_of(request: Request, parameter: Parameter) -> int | None:
    """The same, where it is a number within bounds."""
    given = text_of(request, parameter.name)
    if given is None:
        return parameter.schema.get("default")
    least, most = parameter.schema["minimum"], parameter.schema["maximum"]
    if not (given.isascii() and given.isdigit() and least <= int(given[:10]) <= most):
        raise Refusal(400, f"{parameter.name} is no number from {least} to {most}")
    return int(given)


def unambiguous(request: Request) -> None:
    """Raises `Refusal` (400) for what a proxy in front may read in another way: whose it is, and
    where it ends."""
    if len(request.headers.getlist("authorization")) > 1:
        raise Refusal(400, "the header Authorization is there more than once: send it once")
    if "transfer-encoding" in request.headers and "content-length" in request.headers:
        raise Refusal(400, "the body has both a Content-Length and a Transfer-Encoding: send one")


def from_here(request: Request) -> None:
    """Raises `Refusal` (403) for what a page of another site has a browser send: a proxy in front
    may have added credentials that the page does not know."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        foreign = True
    if foreign:
        raise Refusal(403, "changes are not taken from pages of another site")
