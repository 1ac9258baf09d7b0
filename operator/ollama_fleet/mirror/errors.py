"""What the mirror cannot do, as registries say it: a status, a code and a sentence."""


class MirrorError(Exception):
    """The message says what is wrong and what to do; `retry_after` is in seconds."""

    status = 502
    code = "UNAVAILABLE"
    passing = False
    """Whether the same request may well succeed in a while."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class InvalidNameError(MirrorError):
    """A name or digest that is none."""

    status, code = 400, "NAME_INVALID"


class ManifestUnknownError(MirrorError):
    """The registry has no such model."""

    status, code = 404, "MANIFEST_UNKNOWN"


class BlobUnknownError(MirrorError):
    """The registry has no such blob."""

    status, code = 404, "BLOB_UNKNOWN"


class DeniedError(MirrorError):
    """The registry, or the mirror's own list of registries, says no. Not 401: with that Ollama
    would offer its own key."""

    status, code = 403, "DENIED"


class UnavailableError(MirrorError):
    """The registry cannot be reached, or is not well."""

    passing = True


class BusyError(MirrorError):
    """The registry wants to be left alone for a while."""

    status, code, passing = 429, "TOOMANYREQUESTS", True


class BadAnswerError(MirrorError):
    """The registry's answer is not what was asked for."""


class BeyondEndError(BadAnswerError):
    """The registry has fewer bytes than are here already."""


class WrongBytesError(BadAnswerError):
    """A blob is whole and has another digest."""


class NoRoomError(MirrorError):
    """Everything in the store is in use."""

    status, code, passing = 503, "UNAVAILABLE", True


class TooLargeError(MirrorError):
    """Larger than the whole store, or than its disk."""

    status, code = 507, "SIZE_INVALID"
