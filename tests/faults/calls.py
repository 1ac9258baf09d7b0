"""What an operator asks of an API server, and what is answered, in words that tests compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ollama_fleet.kube.kinds import KINDS, Kind, Object

_KINDS = {(kind.group, kind.plural): kind for kind in KINDS.values()}
_MADE_UP = set("bcdfghjklmnpqrstvwxz2456789")
"""What the ends of generated names consist of, so that they are no words."""
_VERBS = {"PATCH": "apply", "POST": "create", "PUT": "update", "DELETE": "delete"}


@dataclass(frozen=True)
class Call:
    """One request. `kind` is None for what is no request about objects, such as a discovery."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    kind: Kind | None = None
    name: str = ""
    sub: str = ""

    @property
    def writes(self) -> bool:
        return self.method in _VERBS

    @property
    def watches(self) -> bool:
        return self.query.get("watch") in ("true", "1", "True")

    @property
    def lists(self) -> bool:
        """Whether it reads all objects of a kind, as one whose names are selected does not."""
        return (
            self.method == "GET"
            and self.kind is not None
            and not self.name
            and not self.watches
            and "fieldSelector" not in self.query
            and self.query.get("limit") != "1"
        )

    def __str__(self) -> str:
        """What it does, the same in every run: `apply StatefulSet a`, `create Event Ready`."""
        verb = _VERBS.get(self.method, "watch" if self.watches else "read")
        named = self.name
        if self.method == "POST":
            given: Object = json.loads(self.body or b"{}")
            named = given.get("reason") or given.get("metadata", {}).get("name", "")
        about = [str(self.kind or self.path), plain_name(named), self.sub]
        return " ".join(filter(None, [verb, *about]))


def call_of(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
) -> Call:
    """Read a request to the API server."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else ("".join(parts[1:2]), parts[3:])
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    plural, name, sub = [*rest, "", "", ""][:3]
    kind = _KINDS.get((group, plural))
    return Call(method, path, query, headers, body, kind, name, sub)


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(status: int, reason: str, retry_after: int | None = None) -> Reply:
    """What an API server answers that does not do as it is asked."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Reply(status, json.dumps(status_object(status, reason)).encode(), headers)


def status_object(status: int, reason: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": f"{reason}, as the test has it",
        "code": status,
    }


def plain_name(name: str) -> str:
    """A name without what Kubernetes made up: of `chat-router-7d9c8b5f6d-x2x4z`, `chat-router`."""
    head, _, tail = name.rpartition("-")
    if not head or len(tail) != 5 or not set(tail) <= _MADE_UP:
        return name
    stem, _, template = head.rpartition("-")
    return stem if stem and len(template) >= 5 and set(template) <= _MADE_UP else head
