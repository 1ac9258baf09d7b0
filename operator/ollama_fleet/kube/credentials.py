"""How to reach an API server, for a client of another make."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """Address, trust and identity; files may be temporary and last as long as the program."""

    server: str
    authorization: str | None = field(repr=False)
    """The Authorization header's value."""
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    insecure: bool = False
