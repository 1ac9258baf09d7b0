"""Who asks, and what they may: bearer tokens and RBAC of Kubernetes."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ollama_fleet.console.refusal import Refusal
from ollama_fleet.kube import Conflict, Forbidden, Kind, Kube, KubeError, Unauthorized
from ollama_fleet.kube.kinds import SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW

BELIEVED = 30.0
"""Seconds for which an answer of Kubernetes is believed, and a right outlives its end at most."""
MOST = 4096
"""Answers remembered at once."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,8192}")
_VIEWER = "Ask for the ClusterRole ollama-fleet-viewer, or -editor, to be bound to you there."


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever asks. Without a token nobody in particular, who may look and change nothing."""

    name: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    token: str = field(default="", repr=False, compare=False)

    @property
    def anonymous(self) -> bool:
        """Whether nobody knows who it is."""
        return not self.token


class Identity:
    """Asks Kubernetes, and remembers the answers for a moment."""

    def __init__(
        self, kube: Kube, anonymous: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._anonymous = anonymous
        self._clock = clock
        self._people: dict[bytes, tuple[float, Person | None]] = {}
        self._rights: dict[tuple[Person, str, str, str], tuple[float, bool]] = {}

    async def person(self, authorization: str | None) -> Person:
        """Whose request it is, by the header Authorization; raises `Refusal` (401, 503)."""
        if authorization is None:
            if self._anonymous:
                return Person()
            raise _unauthorized(
                "a token is needed here: send 'Authorization: Bearer TOKEN'; "
                "`kubectl create token NAME` makes one for a service account"
            )
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token):
            raise _unauthorized("the header is no 'Authorization: Bearer TOKEN'")
        key = sha256(token.encode()).digest()
        until, person = self._people.get(key, (0.0, None))
        if until <= self._clock():
            person = await self._review(token)
            _remember(self._people, key, (self._clock() + BELIEVED, person))
        if person is None:
            raise _unauthorized("Kubernetes does not know this token, or it has expired: renew it")
        return person

    async def may(self, person: Person, verb: str, kind: Kind, namespace: str = "") -> bool:
        """Whether RBAC lets the person do it in a namespace, or (without one) in all; those whom
        nobody knows may look at everything. Raises `Refusal` (503)."""
        if person.anonymous:
            return verb in ("get", "list", "watch")
        key = (person, verb, kind.kind, namespace)
        until, allowed = self._rights.get(key, (0.0, False))
        if until <= self._clock():
            allowed = await self._ask(person, verb, kind, namespace)
            _remember(self._rights, key, (self._clock() + BELIEVED, allowed))
        return allowed

    async def where(
        self, person: Person, kind: Kind, namespaces: Iterable[str]
    ) -> frozenset[str] | None:
        """Where the person may see objects of a kind; None: everywhere."""
        if await self.may(person, "list", kind):
            return None
        names = sorted(set(namespaces))
        answers = await asyncio.gather(*(self.may(person, "list", kind, one) for one in names))
        return frozenset(name for name, allowed in zip(names, answers, strict=True) if allowed)

    async def require(self, person: Person, verb: str, kind: Kind, namespace: str) -> None:
        """Raises `Refusal` (401, 403) unless the person may do it."""
        if person.anonymous:
            raise _unauthorized("without a token the fleet can be looked at, and not changed")
        if not await self.may(person, verb, kind, namespace):
            raise Refusal(
                403,
                f"{person.name} may not {verb} {kind.plural} in namespace {namespace}. {_VIEWER}",
            )

    async def acting(self, person: Person) -> Kube:
        """Calls with the person's own token: what RBAC forbids them it forbids here."""
        return await self._kube.acting(person.token)

    async def _review(self, token: str) -> Person | None:
        answer = await self._post(
            {
                "apiVersion": TOKEN_REVIEW.api_version,
                "kind": TOKEN_REVIEW.kind,
                "metadata": {},
                "spec": {"token": token},
            }
        )
        status = answer.get("status") or {}
        if not status.get("authenticated"):
            return None
        user = status.get("user") or {}
        return Person(
            user.get("username", ""),
            user.get("uid", ""),
            tuple(user.get("groups") or ()),
            tuple((key, tuple(values)) for key, values in (user.get("extra") or {}).items()),
            token,
        )

    async def _ask(self, person: Person, verb: str, kind: Kind, namespace: str) -> bool:
        attributes = {"group": kind.group, "resource": kind.plural, "verb": verb}
        if namespace:
            attributes["namespace"] = namespace
        answer = await self._post(
            {
                "apiVersion": SUBJECT_ACCESS_REVIEW.api_version,
                "kind": SUBJECT_ACCESS_REVIEW.kind,
                "metadata": {},
                "spec": {
                    "user": person.name,
                    "uid": person.uid,
                    "groups": list(person.groups),
                    "extra": {key: list(values) for key, values in person.extra},
                    "resourceAttributes": attributes
                    | ({"namespace": namespace} if namespace else {}),
                },
            }
        )
        return bool((answer.get("status") or {}).get("allowed"))

    async def _post(self, review: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._kube.create(review)
        except KubeError as error:
            raise refusal_of(error) from None


def refusal_of(error: KubeError) -> Refusal:
    """What a refusal of Kubernetes is here; a `Refusal` of 401, 403, 409, 422 or 503."""
    if isinstance(error, Unauthorized):
        return _unauthorized("Kubernetes does not know this token, or it has expired: renew it")
    if isinstance(error, Forbidden):
        return Refusal(403, error.message)
    if isinstance(error, Conflict):
        return Refusal(409, f"{error.message}: try again")
    if error.status in (400, 422):
        return Refusal(400, error.message)
    return Refusal(503, f"Kubernetes cannot be asked now: {error}", headers={"Retry-After": "5"})


def _unauthorized(sentence: str) -> Refusal:
    return Refusal(401, sentence, headers={"WWW-Authenticate": "Bearer"})


def _remember(kept: dict[Any, Any], key: Any, value: Any) -> None:
    """The oldest goes where there are too many."""
    kept.pop(key, None)
    while len(kept) >= MOST:
        del kept[next(iter(kept))]
    kept[key] = value
