"""What tenants may ask: relayed to a server, answered for the fleet, or refused."""

from collections.abc import Callable, Sequence
from random import random
from typing import TypeVar

from ollama_fleet.router.accesslog import AccessLog
from ollama_fleet.router.aliases import Alias, Target
from ollama_fleet.router.body import read_body, write_body
from ollama_fleet.router.call import Call
from ollama_fleet.router.conversation import conversation_key
from ollama_fleet.router.errors import Api, Refusal
from ollama_fleet.router.exchange import Exchange
from ollama_fleet.router.framing import Request
from ollama_fleet.router.front import TEXT, Front
from ollama_fleet.router.gate import OPEN
from ollama_fleet.router.listing import Listing
from ollama_fleet.router.names import is_cloud, is_host_qualified, lookup_key
from ollama_fleet.router.options import admitted, with_defaults
from ollama_fleet.router.relay import Relay
from ollama_fleet.router.routes import RELAY, Action, Route, api_of_target, route
from ollama_fleet.router.snapshot import State

T = TypeVar("T")


class Tenants:
    """The handler of the main listener."""

    def __init__(self, relay: Relay, ready: Callable[[], str]) -> None:
        self._relay = relay
        self._ready = ready
        self._listing = Listing(relay.fleet.snapshot, relay.settings.aliases)
        self.log: AccessLog | None = None
        self.console: Callable[[Front, Request], None] = _no_console
        """Answers what is the console's; raises `Refusal`."""

    def api_of(self, request: Request) -> Api:
        """The API the request's path belongs to."""
        return api_of_target(request.target)

    def admit(self, request: Request) -> None:
        """Decide on the path and method; raises `Refusal`."""
        found = request.route = self._route(request)
        gate = self._relay.gate
        # the console asks itself who it is, by Kubernetes' tokens rather than by clients' keys
        if gate is not None and found.path not in OPEN and found.action is not Action.FLEET:
            self._counted(gate.admit, request)

    def handle(self, front: Front, request: Request) -> None:
        """Answer, or hand over to an exchange; raises `Refusal`."""
        found = request.route
        assert found is not None
        if found.action is RELAY:
            self._relayed(front, request, found)
        elif found.action is Action.FLEET:
            self.console(front, request)
        else:
            self._answered(front, request, found)

    def refused(self, front: Front, request: Request, refusal: Refusal) -> None:
        """Have the access log say so, where there is one."""
        if self.log is not None:
            self.log.refused(front, request, refusal)

    def _route(self, request: Request) -> Route:
        try:
            found = route(request.method, request.target)
            if found.action is Action.FLEET:
                if not self._relay.settings.fleet_api:
                    raise Refusal(404, "404 page not found", reason="Path")
            elif found.api not in self._relay.settings.apis and found.path not in _ALWAYS:
                raise Refusal(404, f"this router does not serve {found.api.value}", reason="Path")
        except Refusal as refusal:
            self._relay.accounting.rejected[refusal.reason] += 1
            raise
        return found

    def _relayed(self, front: Front, request: Request, found: Route) -> None:
        settings, gate = self._relay.settings, self._relay.gate
        try:
            name, fields = read_body(request.body, may_use_name=found.shows)
            model = lookup_key(name)
            if gate is not None:
                gate.allow(request, name, settings.aliases)
            sent = admitted(fields, settings.policy)
            alias = settings.aliases.get(model)
            if alias is None:
                self._expect(name, model, found)
            else:
                target = self._behind(name, alias)
                model = target.key
                sent = with_defaults(sent, alias.defaults, found.path)
                if sent.get("model") != target.model:
                    sent = {**sent, "model": target.model}
            if sent is not fields:
                request.body = write_body(sent)
        except Refusal as refusal:
            self._relay.accounting.rejected[refusal.reason] += 1
            raise
        call = Call(request, found, name, model, self._relay.loop.time())
        if settings.strategy == "PrefixAffinity" and not (found.shows or found.embeds):
            call.conversation = conversation_key(model, fields)
        if gate is not None:
            self._counted(gate.enter, call)
        Exchange(self._relay, front, call).start()

    def _counted(self, check: Callable[[T], None], subject: T) -> None:
        try:
            check(subject)
        except Refusal as refusal:
            self._relay.accounting.rejected[refusal.reason] += 1
            raise

    def _expect(self, name: str, model: str, found: Route) -> None:
        """See that the model is one of the fleet's; raises `Refusal`."""
        if is_cloud(name):
            raise Refusal(
                403,
                f"model '{name}' runs in a cloud; only models on this fleet are served",
                reason="Cloud",
            )
        if model not in self._relay.fleet.snapshot.holders:
            raise self._unknown(name, model, found)

    def _behind(self, name: str, alias: Alias) -> Target:
        """The model that answers for a name; raises `Refusal`."""
        target = alias.choose(self._relay.fleet.snapshot.holders, random())  # noqa: S311
        if target is not None:
            return target
        models = list(alias.models)
        if (absent := self._absent(name, [one.key for one in models])) is not None:
            raise absent
        named = ", ".join(dict.fromkeys(one.model for one in models))
        sentence = f"no server has a model that '{name}' stands for: {named}"
        raise Refusal(503, sentence, reason="NotReady", retry_after=30)

    def _unknown(self, name: str, model: str, found: Route) -> Refusal:
        if is_host_qualified(name):
            return Refusal(
                400, f"write the model '{name}' without a registry's host", reason="HostQualified"
            )
        absent = self._absent(name, [model])
        if absent is not None:
            return absent
        # Ollama has two wordings.
        if found.embeds and found.api is Api.OLLAMA:
            sentence = f'model "{name}" not found, try pulling it first'
        else:
            sentence = f"model '{name}' not found"
        return Refusal(404, sentence, reason="NoModel")

    def _absent(self, name: str, models: Sequence[str]) -> Refusal | None:
        """Why no server has any of the models now, if one should soon."""
        fleet = self._relay.fleet
        if not fleet.snapshot.withheld.isdisjoint(models):
            return Refusal(
                503,
                f"no server has '{name}' with the digest that it is pinned to; try again later",
                reason="Drifted",
                retry_after=30,
            )
        unseen = any(
            server.state is State.STARTING and not server.installed
            for server in fleet.snapshot.servers
        )
        if unseen or any(map(fleet.expects, models)):
            return Refusal(
                503,
                f"no server with '{name}' is ready yet; try again in a few seconds",
                reason="NotReady",
                retry_after=2,
            )
        return None

    def _answered(self, front: Front, request: Request, found: Route) -> None:
        listing = self._listing
        snapshot, aliases = self._relay.fleet.snapshot, self._relay.settings.aliases
        if listing.snapshot is not snapshot or listing.aliases is not aliases:
            listing = self._listing = Listing(snapshot, aliases)
        match found.action:
            case Action.RUNNING:
                front.answer(200, b"Ollama is running", TEXT)
            case Action.VERSION:
                front.answer(200, listing.version())
            case Action.TAGS:
                front.answer(200, self._shown(request, listing.tags()))
            case Action.MODELS:
                front.answer(200, self._shown(request, listing.models()))
            case Action.MODEL:
                if self._relay.gate is not None:
                    self._relay.gate.allow(request, found.argument, aliases)
                front.answer(200, listing.model(found.argument))
            case Action.HEALTHZ:
                front.answer(200, b"ok\n", TEXT)
            case _:
                waiting = self._ready()
                front.answer(503 if waiting else 200, (waiting or "ok").encode() + b"\n", TEXT)

    def _shown(self, request: Request, listing: bytes) -> bytes:
        gate = self._relay.gate
        if gate is None:
            return listing
        return gate.shown(request, listing, self._relay.settings.aliases)


def _no_console(front: Front, request: Request) -> None:
    raise Refusal(503, "this router was told of no console to ask", reason="NoConsole")


_ALWAYS = (b"/", b"/healthz", b"/readyz")
