"""What roles grant the programs, and what the programs ask for: both are in the audit logs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ollama_fleet.kube.kinds import KINDS, Object
from tests.cluster.audit import Call, read_call

RBAC = "rbac.authorization.k8s.io"
_OURS = ("app.kubernetes.io/part-of", "app.kubernetes.io/managed-by")
_OF_PEOPLE = f"{RBAC}/aggregate-to-"
_ALLOWED = re.compile(r' of (?:Cluster)?Role "([^"]+)"')
_OF_A_ROUTER = re.compile(r".+(?=-router-secrets$)")
_PROGRAMS = re.compile(r"system:serviceaccount:[^:]+:(ollama-fleet.*|.+-router)")
# What admission asks of RBAC, it refuses in words of its own.
_REFUSED = re.compile(r"blockOwnerDeletion|not currently held")


class Grant(NamedTuple):
    """A verb on a resource, by a role; the Roles of all routers count as one."""

    role: str
    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.role}: {self.verb} {'.'.join(filter(None, (self.resource, self.group)))}"


@dataclass
class Ledger:
    """Everything granted, used and refused."""

    granted: set[Grant] = field(default_factory=set)
    used: set[Grant] = field(default_factory=set)
    """By anybody, as roles may be meant to be bound to people and machines."""
    by_programs: set[Grant] = field(default_factory=set)
    """By the operator, routers and whatever else the chart runs."""
    _refused: dict[tuple[str, ...], Call] = field(default_factory=dict)
    _deleted: set[tuple[str, str]] = field(default_factory=set)
    """Routers, by namespace and name; all of a namespace have no name."""

    def read(self, entries: Iterable[Object]) -> None:
        """Add what an audit log tells."""
        for entry in entries:
            self.granted.update(_granted(entry))
            used = set(_used(entry))
            self.used |= used
            self._follow(entry)
            if _PROGRAMS.fullmatch(entry["user"]["username"]):
                self.by_programs |= used
                if _refused(entry) and not self._is_leaving(entry["user"]["username"]):
                    self._refused[_asked(entry)] = read_call(entry)
                else:
                    self._refused.pop(_asked(entry), None)

    def _follow(self, entry: Object) -> None:
        """Note which Routers are deleted, and which are made again."""
        target = entry.get("objectRef") or {}
        answer = entry["responseStatus"]["code"]
        if target.get("subresource") or not 200 <= answer < 300:
            return
        match target.get("resource"), entry["verb"]:
            case "namespaces", "delete":
                self._deleted.add((target["name"], ""))
            case "routers", "delete" | "deletecollection":
                self._deleted.add((target["namespace"], target.get("name", "")))
            case "routers", "create" | "patch" if answer == 201:
                self._deleted -= {
                    (target["namespace"], name) for name in (target.get("name", ""), "")
                }

    def _is_leaving(self, user: str) -> bool:
        """Whether it is a deleted Router's pod: its Role may go before it does."""
        _, _, namespace, account = user.split(":")
        return bool({(namespace, account.removesuffix("-router")), (namespace, "")} & self._deleted)

    @property
    def refused(self) -> list[Call]:
        """To programs, for good: a role that was just bound takes a moment to be known, and that
        of a deleted Router may go before its pods."""
        return list(self._refused.values())

    @property
    def unused(self) -> list[str]:
        """What could be taken away, as far as these logs tell."""
        return [str(grant) for grant in sorted(self.granted - self.used)]

    @property
    def borrowed(self) -> list[str]:
        """What programs did by other roles than their own."""
        return [str(grant) for grant in sorted(self.by_programs - self.granted)]


def _asked(entry: Object) -> tuple[str, ...]:
    """Who asked for what, wherever and however often."""
    target = entry.get("objectRef") or {}
    what = (target.get(part, "") for part in ("namespace", "apiGroup", "resource", "subresource"))
    return entry["user"]["username"], entry["verb"], *what


def _granted(entry: Object) -> Iterator[Grant]:
    """What a role that is written gives to programs."""
    role = entry.get("responseObject") or {}
    if role.get("kind") not in ("ClusterRole", "Role"):
        return
    labels = role["metadata"].get("labels") or {}
    if "ollama-fleet" not in (labels.get(label) for label in _OURS):
        return
    if any(label.startswith(_OF_PEOPLE) for label in labels):
        return
    name = _role(role["metadata"]["name"])
    for rule in role.get("rules") or ():
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from (Grant(name, group, resource, verb) for verb in rule["verbs"])


def _used(entry: Object) -> Iterator[Grant]:
    """What a call needed of the role that allowed it."""
    allowed = _ALLOWED.search(entry["annotations"].get("authorization.k8s.io/reason", ""))
    target = entry.get("objectRef")
    if allowed is None or target is None or "resource" not in target:
        return
    role = _role(allowed[1])
    resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
    yield Grant(role, target.get("apiGroup", ""), resource, entry["verb"])
    # Server-side apply of what is not there yet.
    if entry["verb"] == "patch" and entry["responseStatus"]["code"] == 201:
        yield Grant(role, target.get("apiGroup", ""), resource, "create")
    body = entry.get("requestObject") or {}
    for owner in (body.get("metadata") or {}).get("ownerReferences") or ():
        if owner.get("blockOwnerDeletion"):
            kind = KINDS[owner["apiVersion"], owner["kind"]]
            yield Grant(role, kind.group, f"{kind.plural}/finalizers", "update")
    if (body.get("roleRef") or {}).get("kind") == "ClusterRole":
        yield Grant(role, RBAC, "clusterroles", "bind")


def _refused(entry: Object) -> bool:
    """Whether RBAC said no, not a quota, a webhook, or a namespace on its way out."""
    if entry["annotations"].get("authorization.k8s.io/decision") == "forbid":
        return True
    answer = entry["responseStatus"]
    return answer["code"] == 403 and bool(_REFUSED.search(answer.get("message", "")))


def _role(name: str) -> str:
    return _OF_A_ROUTER.sub("<router>", name)
