"""What it takes to reach a server that asks for it: headers, and whom to trust, out of Secrets."""

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.tls import BEGIN, Pair, serve, trust

CA_KEY = "ca.crt"
CERTIFICATE_KEY, PRIVATE_KEY = "tls.crt", "tls.key"

_RESERVED = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


class SecretRefs(NamedTuple):
    """The names of the Secrets a server is reached by."""

    headers: str | None = None
    ca: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Those there are."""
        return tuple(name for name in self if name is not None)


class SecretError(Exception):
    """A Secret that cannot be used. The message says what to change, and shows no value."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Access:
    """The headers every request is sent with, and the authority (PEM) that signs the server's
    certificate; None: those the system trusts."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ca: str | None = field(default=None, repr=False)

    def hide(self, text: str) -> str:
        """A server's own words, should it repeat what it was sent."""
        for _, value in self.headers:
            for part in (value, *value.split()):
                if len(part) >= 8:  # what is shorter may be a word
                    text = text.replace(part, "[hidden]")
        return text


def headers_in(secret: Mapping[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    """The headers a Secret holds, an entry each; raises SecretError."""
    found: dict[str, tuple[str, str]] = {}
    for key, value in texts_in(secret).items():
        if (fault := header_fault(key, value)) is not None:
            raise _invalid(f"Secret {name}: {fault}. Correct that entry.")
        if key.lower() in found:
            raise _invalid(f"Secret {name}: {key} is there twice, in capitals and without.")
        found[key.lower()] = (key, value.strip())
    if not found:
        raise _invalid(f"Secret {name} is empty: give it an entry for each header.")
    return tuple(found.values())


def header_fault(name: str, value: str) -> str | None:
    """What is wrong with a header, without its value; None: nothing."""
    if not name.replace("-", "").isalnum() or not name.isascii():
        return f"{name!r} is not a header name: write letters, digits and -"
    if name.lower() in _RESERVED:
        return f"{name} is set by the connection itself"
    if not value.strip().isascii() or not value.strip().isprintable():
        return f"the value of {name} holds characters a header cannot: write it on one line"
    return None


def authority_in(secret: Mapping[str, Any], name: str) -> str:
    """The certificates under ca.crt, as PEM; raises SecretError."""
    pem = texts_in(secret).get(CA_KEY)
    if pem is None:
        raise _invalid(f"Secret {name} has no {CA_KEY}: put the authority's certificate there.")
    try:
        trust(pem)
    except (ssl.SSLError, ValueError):
        raise _invalid(
            f"Secret {name}: {CA_KEY} is no certificate. Put the authority's certificate there as "
            f"PEM, from {BEGIN}."
        ) from None
    return pem


def certificate_in(secret: Mapping[str, Any], name: str) -> Pair:
    """The certificate in a Secret of type kubernetes.io/tls; raises SecretError."""
    entries = texts_in(secret)
    for key, sign, what in (
        (CERTIFICATE_KEY, BEGIN, "certificate"),
        (PRIVATE_KEY, "PRIVATE KEY-----", "private key"),
    ):
        if sign not in entries.get(key, ""):
            raise _invalid(f"Secret {name} has no {what} under {key}: put it there as PEM.")
    pair = Pair(entries[CERTIFICATE_KEY], entries[PRIVATE_KEY])
    try:
        serve(pair)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _invalid(
                f"Secret {name}: {PRIVATE_KEY} is not the key of the certificate in "
                f"{CERTIFICATE_KEY}. Put there the two that belong together, the server's own "
                "certificate first."
            ) from None
        raise _invalid(
            f"Secret {name}: {CERTIFICATE_KEY} and {PRIVATE_KEY} cannot be used "
            f"({error.reason or 'no PEM'}). Put there a certificate, and its key without a "
            "password, as PEM."
        ) from None
    return pair


def texts_in(secret: Mapping[str, Any]) -> dict[str, str]:
    """What is not text comes out as text that no header takes."""
    data = secret.get("data") or {}
    return {key: base64.b64decode(data[key]).decode("utf-8", "replace") for key in sorted(data)}


def _invalid(message: str) -> SecretError:
    return SecretError(Reason.INVALID_SECRET, message)
