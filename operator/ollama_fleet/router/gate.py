"""The gate: who may ask, for which models, and how much."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Final

import orjson

from ollama_fleet.api.keys import Clients
from ollama_fleet.router.accounting import Accounting
from ollama_fleet.router.aliases import Alias
from ollama_fleet.router.call import Call
from ollama_fleet.router.errors import Api, Refusal
from ollama_fleet.router.fields import Field
from ollama_fleet.router.framing import Request
from ollama_fleet.router.keys import ANONYMOUS, Caller, Keys
from ollama_fleet.router.names import lookup_key
from ollama_fleet.router.quota import Usage, Window

OPEN: Final = (b"/", b"/healthz", b"/readyz")
"""Paths that need no key: they tell that a router runs, and nothing of its models or servers."""

_BEARER: Final[tuple[Field, ...]] = ((b"www-authenticate", b"Bearer"),)
_BYTES_PER_TOKEN: Final = 4
_CONTEXT: Final = 4096


class Gate:
    """What stands between a request and the servers where a router has keys."""

    def __init__(self, clock: Callable[[], float], accounting: Accounting) -> None:
        self._clock = clock
        self._accounting = accounting
        self._keys: Keys | None = None
        self._usages: dict[str, Usage] = {}
        self._replicas = 1
        self.anonymous = False
        """Whether those without a key may ask, for everything and without limit."""

    @property
    def closed(self) -> bool:
        """Whether no keys are known yet, so that nobody may ask."""
        return self._keys is None

    def take(self, found: Clients) -> None:
        """Go by these keys from now on."""
        if self._keys is None:
            self._keys = Keys()
        self._keys.take(found, self._replicas)
        names = self._keys.names
        self._usages = {name: self._usages.get(name) or Usage() for name in names}

    def forget(self) -> None:
        """Know no keys any more."""
        self._keys = None
        self._usages = {}

    def share(self, replicas: int) -> None:
        """So many routers share what each client may."""
        self._replicas = max(1, replicas)
        if self._keys is not None:
            self._keys.share(self._replicas)

    def admit(self, request: Request) -> None:
        """Look whose request it is, by its head; raises `Refusal` (401, 503)."""
        request.caller = self._caller(request)

    def allow(self, request: Request, name: str, aliases: Mapping[str, Alias]) -> None:
        """Whether the client may use the model it names; raises `Refusal` (403)."""
        caller = self._of(request)
        if caller.models is not None and not _may_use(caller, name, aliases):
            told = f"your key is not for the model '{name}'"
            raise self._refused(caller, Refusal(403, told, reason="ModelNotAllowed"))

    def enter(self, call: Call) -> None:
        """Count a request that goes to a server; raises `Refusal` (429)."""
        caller = self._of(call.request)
        call.client, call.weight = caller.name, caller.weight
        usage = self._usages.get(caller.name)
        if usage is None:
            return
        now = self._clock()
        exceeded = usage.exceeded(caller.limits, now)
        if exceeded is None:
            usage.begin(now)
            return
        wait = max(1, ceil(exceeded.wait))
        if exceeded.kind == "concurrent":
            told = f"{exceeded.limit} of your requests are under way here already"
        else:
            told = f"your {exceeded.limit} {exceeded.kind} per minute are used up here"
        raise self._refused(
            caller,
            Refusal(
                429,
                f"{told}; try again in {wait} s",
                reason="QuotaExceeded",
                retry_after=wait,
                fields=tuple(self._quota(caller, call.route.api)),
            ),
        )

    def over(self, call: Call) -> None:
        """A call is over: its tokens are known."""
        accounting = self._accounting
        accounting.client_requests[call.client, call.status] += 1
        if call.tokens_in is not None:
            accounting.client_tokens[call.client, "input"] += call.tokens_in
        if call.tokens_out is not None:
            accounting.client_tokens[call.client, "output"] += call.tokens_out
        usage = self._usages.get(call.client)
        if usage is not None:
            usage.end(_tokens_of(call), self._clock())

    def fields(self, call: Call) -> Sequence[Field]:
        """What an answer's head tells of the client's quotas."""
        caller = getattr(call.request, "caller", None)
        return () if caller is None else self._quota(caller, call.route.api)

    def shown(self, request: Request, listing: bytes, aliases: Mapping[str, Alias]) -> bytes:
        """Of a listing of models, those that the client may use."""
        caller = self._of(request)
        if caller.models is None:
            return listing
        told = orjson.loads(listing)
        for entries in told.values():
            if isinstance(entries, list):
                entries[:] = [one for one in entries if _may_use(caller, _name_of(one), aliases)]
        return orjson.dumps(told)

    def _of(self, request: Request) -> Caller:
        """The client, if it still is one: a request's body may have taken long."""
        caller = getattr(request, "caller", None)
        if caller is None or (caller.name and caller.name not in self._usages):
            caller = request.caller = self._caller(request)
        return caller

    def _caller(self, request: Request) -> Caller:
        if self._keys is None:
            raise Refusal(
                503,
                "this router does not know its clients' keys yet; try again in a few seconds",
                reason="NoKeys",
                retry_after=2,
            )
        caller, presented = self._keys.find(request.fields)
        if caller is not None:
            return caller
        if self.anonymous:
            return ANONYMOUS
        if presented:
            raise Refusal(401, "this key is not known here", reason="UnknownKey", fields=_BEARER)
        raise Refusal(
            401,
            "a key is needed here: send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'",
            reason="NoKey",
            fields=_BEARER,
        )

    def _refused(self, caller: Caller, refusal: Refusal) -> Refusal:
        self._accounting.client_requests[caller.name, refusal.status] += 1
        return refusal

    def _quota(self, caller: Caller, api: Api) -> list[Field]:
        usage = self._usages.get(caller.name)
        if usage is None:
            return []
        now = self._clock()
        told: list[Field] = []
        for kind, window, limit in (
            (b"requests", usage.requests, caller.limits.requests),
            (b"tokens", usage.tokens, caller.limits.tokens),
        ):
            if limit is not None:
                tell = _as_anthropic if api is Api.ANTHROPIC else _as_openai
                told += tell(kind, window, limit, now)
        return told


def _tokens_of(call: Call) -> int:
    """What a call is charged. Streams of OpenAI tell no usage unless asked to, and answers that
    were left early none at all: then an event counts as a token, as Ollama sends one in each, and
    so do 4 bytes of the request, up to the context that Ollama has by default."""
    if call.server is None or call.route.shows:
        return 0
    taken, given = call.tokens_in, call.tokens_out
    if taken is None and given is None and call.status in (0, 200):
        return min(len(call.request.body) // _BYTES_PER_TOKEN, _CONTEXT) + call.events
    return (taken or 0) + (given or 0)


def _may_use(caller: Caller, name: str, aliases: Mapping[str, Alias]) -> bool:
    """Whether a name is among the client's models, or stands for such models alone."""
    key = lookup_key(name)
    alias = aliases.get(key)
    return caller.may_use(key, () if alias is None else [one.key for one in alias.models])


def _name_of(entry: dict[str, Any]) -> str:
    """The name of a model that Ollama or OpenAI lists."""
    return str(entry.get("name") or entry["id"])


def _as_openai(kind: bytes, window: Window, limit: int, now: float) -> tuple[Field, ...]:
    return (
        (b"x-ratelimit-limit-" + kind, b"%d" % limit),
        (b"x-ratelimit-remaining-" + kind, b"%d" % max(0, limit - window.used(now))),
        (b"x-ratelimit-reset-" + kind, b"%ds" % ceil(window.empty_in(now))),
    )


def _as_anthropic(kind: bytes, window: Window, limit: int, now: float) -> tuple[Field, ...]:
    prefix = b"anthropic-ratelimit-" + kind
    reset = datetime.now(UTC) + timedelta(seconds=ceil(window.empty_in(now)))
    return (
        (prefix + b"-limit", b"%d" % limit),
        (prefix + b"-remaining", b"%d" % max(0, limit - window.used(now))),
        (prefix + b"-reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
    )
