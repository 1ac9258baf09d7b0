"""What can go wrong in a call to the API server; nothing else leaves the port.

Named as Kubernetes names its reasons, hence without "Error".
"""

from collections.abc import Mapping
from typing import Any


class KubeError(Exception):
    """A call the API server refused, or that never reached it (status 0)."""

    transient: bool = False
    """Whether the same call may succeed later with nothing changed by anyone."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message or reason or f"HTTP {status}")
        self.status = status
        self.reason = reason
        self.message = str(self)
        self.details = details or {}
        self.retry_after = retry_after
        """Seconds the server asks to wait, where it does."""


class ConfigError(KubeError):
    """There is no usable way to an API server: no kubeconfig, or a broken one."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Config", message)


class Unauthorized(KubeError):  # noqa: N818
    """401: the credentials are wrong or expired."""


class Forbidden(KubeError):  # noqa: N818
    """403: RBAC, quota or admission says no."""


class NotFound(KubeError):  # noqa: N818
    """404: no such object, or no such kind (its CRD is not installed)."""


class Conflict(KubeError):  # noqa: N818
    """409: the object exists already, or changed since it was read."""

    transient = True

    @property
    def exists(self) -> bool:
        """Whether the object to create exists already, rather than a race being lost."""
        return self.reason == "AlreadyExists"


class Gone(KubeError):  # noqa: N818
    """410: the resourceVersion or continue token is too old; list again."""

    transient = True


class Invalid(KubeError):  # noqa: N818
    """422: the object breaks its schema; `message` names the field."""


class TooManyRequests(KubeError):  # noqa: N818
    """429: the server asks to slow down; see `retry_after`."""

    transient = True


class Unavailable(KubeError):  # noqa: N818
    """No connection, a timeout, or a 5xx."""

    transient = True


class Fenced(KubeError):  # noqa: N818
    """A write that was not sent, as another operator may be leading by now."""

    transient = True

    def __init__(self) -> None:
        super().__init__(0, "Fenced", "not written: another operator may be leading by now")


_BY_STATUS: dict[int, type[KubeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_for(status: int, body: Mapping[str, Any], retry_after: float | None = None) -> KubeError:
    """The error that a `Status` object (or an empty mapping) of an HTTP status stands for."""
    details = body.get("details") or {}
    cls = Unavailable if status >= 500 else _BY_STATUS.get(status, KubeError)
    return cls(
        status,
        body.get("reason") or "",
        body.get("message") or "",
        details,
        retry_after if retry_after is not None else details.get("retryAfterSeconds"),
    )
