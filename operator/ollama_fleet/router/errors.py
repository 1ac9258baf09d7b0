"""What a client is told when something is refused, in the words and shape of its own API."""

from enum import Enum
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from ollama_fleet.router.fields import Field


class Api(Enum):
    """The form of API a path belongs to; its value is the name in `spec.apis`."""

    OLLAMA = "Ollama"
    OPENAI = "OpenAI"
    ANTHROPIC = "Anthropic"

    __hash__ = object.__hash__  # each is one object, and Enum's own hash is slow


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """An answer the router gives itself instead of a server's."""

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        reason: str,
        retry_after: int = 0,
        allow: str = "",
        fields: "tuple[Field, ...]" = (),
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.reason = reason
        self.retry_after = retry_after
        self.allow = allow
        self.fields = fields


_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_OPENAI_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_ANTHROPIC_TYPES = _OPENAI_TYPES | {413: "request_too_large", 503: "overloaded_error"}


def envelope(api: Api, status: int, sentence: str) -> bytes:
    """The JSON body that clients of `api` expect for an error."""
    body: dict[str, Any]
    if api is Api.OPENAI:
        kind = _OPENAI_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        code = _OPENAI_CODES.get(status)
        body = {"error": {"message": sentence, "type": kind, "param": None, "code": code}}
    elif api is Api.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(
            status, "api_error" if status >= 500 else "invalid_request_error"
        )
        body = {"type": "error", "error": {"type": kind, "message": sentence}}
    else:
        body = {"error": sentence}
    return orjson.dumps(body)


def api_of(path: str) -> Api:
    """Which API's clients ask for `path`, whether or not it exists."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return Api.ANTHROPIC
    return Api.OPENAI if path.startswith("/v1/") or path == "/v1" else Api.OLLAMA


class FramingError(Exception):
    """A message that cannot be read in one way; `status` is what a client is answered."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
