"""What can go wrong with an Ollama server or a registry."""

from __future__ import annotations


class OllamaError(Exception):
    """The base of all of this port's errors; its text is one sentence for a person."""


class Unreachable(OllamaError):  # noqa: N818
    """No connection, no answer in time, or a connection lost half way. Worth another try."""


class Silent(Unreachable):
    """Connected, and nothing more came in time."""


class ModelNotFound(OllamaError):  # noqa: N818
    """The server, or the registry, does not have that model."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__(message)
        self.model = model


class PullFailed(OllamaError):  # noqa: N818
    """A pull ended without success; `message` is Ollama's own."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__(f"pull of {model} failed: {message}")
        self.model = model
        self.message = message


class OllamaResponseError(OllamaError):
    """An answer that is no success. `status` is the HTTP status, `message` the server's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.message = message


class Busy(OllamaResponseError):  # noqa: N818
    """503: the server's queue is full. Worth another try, on another server first."""


class RegistryError(OllamaError):
    """A registry's answer that is no success or no manifest."""


class Unauthorized(RegistryError):  # noqa: N818
    """401 or 403: the registry gives that model only to those it knows."""


class RateLimited(RegistryError):  # noqa: N818
    """429: too many requests. `retry_after`: seconds to wait, None if the registry does not say."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
