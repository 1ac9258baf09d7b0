"""Which paths tenants may use, decided on the decoded path; the decision is what is forwarded."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import unquote

from ollama_fleet.router.errors import Api, Refusal, api_of
from ollama_fleet.router.usage import COMPLETIONS, MESSAGES, OLLAMA, Counts


class Action(Enum):
    """What the router does with a request."""

    RELAY = auto()
    RUNNING = auto()
    VERSION = auto()
    TAGS = auto()
    MODELS = auto()
    MODEL = auto()
    HEALTHZ = auto()
    FLEET = auto()
    READYZ = auto()


RELAY: Final = Action.RELAY  # a member is looked up slowly on its class


@dataclass(frozen=True, slots=True)
class Route:
    """A path's meaning. `path` is what a server is sent, `argument` a model named in the path,
    `counts` what its answers call their tokens."""

    action: Action
    api: Api
    methods: tuple[bytes, ...]
    path: bytes
    argument: str = ""
    shows: bool = False
    embeds: bool = False
    counts: Counts = OLLAMA


def _relayed(
    path: str, api: Api, counts: Counts = OLLAMA, *, shows: bool = False, embeds: bool = False
) -> Route:
    return Route(
        Action.RELAY, api, (b"POST",), path.encode(), shows=shows, embeds=embeds, counts=counts
    )


def _answered(path: str, action: Action, api: Api = Api.OLLAMA) -> Route:
    return Route(action, api, (b"GET", b"HEAD"), path.encode())


_MODELS = "/v1/models"
_ROUTES = {
    route.path.decode(): route
    for route in (
        _relayed("/api/chat", Api.OLLAMA),
        _relayed("/api/generate", Api.OLLAMA),
        _relayed("/api/embed", Api.OLLAMA, embeds=True),
        _relayed("/api/embeddings", Api.OLLAMA, embeds=True),
        _relayed("/api/show", Api.OLLAMA, shows=True),
        _relayed("/v1/chat/completions", Api.OPENAI, COMPLETIONS),
        _relayed("/v1/completions", Api.OPENAI, COMPLETIONS),
        _relayed("/v1/embeddings", Api.OPENAI, COMPLETIONS, embeds=True),
        _relayed("/v1/responses", Api.OPENAI, MESSAGES),
        _relayed("/v1/messages", Api.ANTHROPIC, MESSAGES),
        _answered("/", Action.RUNNING),
        _answered("/api/version", Action.VERSION),
        _answered("/api/tags", Action.TAGS),
        _answered(_MODELS, Action.MODELS, Api.OPENAI),
        _answered("/healthz", Action.HEALTHZ),
        _answered("/readyz", Action.READYZ),
    )
}
_BY_TARGET: Final = {path.encode(): route for path, route in _ROUTES.items()}

_FLEET = ("/api/agents", "/api/tasks", "/api/health", "/api/fit")
_BELOW_FLEET = ("/api/agents/", "/api/tasks/", "/api/models/")
_FLEET_METHODS = (b"GET", b"POST", b"DELETE")

_INSTALL = (
    "models are installed here by ModelDistribution resources; "
    "ask the people who run this fleet to add the model to one"
)
_OPERATORS_ONLY = {
    "/api/pull": _INSTALL,
    "/api/create": _INSTALL,
    "/api/push": "models are not pushed from here; push from where the model was made",
    "/api/copy": "models are named by Router and ModelDistribution resources, not by clients",
    "/api/delete": "models are removed by ModelDistribution resources, not by clients",
    "/api/ps": "which models are in memory is shown to operators only: /api/ps on the metrics port",
}


def route(method: bytes, target: bytes) -> Route:
    """The route of a request; raises `Refusal` (400, 403, 404, 405)."""
    found = _BY_TARGET.get(target)
    if found is None:
        found = _find(decoded(target), target)
    if method not in found.methods:
        allow = ", ".join(known.decode() for known in found.methods)
        raise Refusal(405, "405 method not allowed", reason="Method", allow=allow)
    return found


def decoded(target: bytes) -> str:
    """The path of a request target without its query, percent-decoded once."""
    try:
        return unquote(target.partition(b"?")[0].decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise Refusal(400, "the path is not UTF-8", reason="Path") from None


def _find(path: str, target: bytes) -> Route:
    found = _ROUTES.get(path)
    if found is not None:
        return found
    if path.startswith(_MODELS + "/") and len(path) > len(_MODELS) + 1:
        argument = path[len(_MODELS) + 1 :]
        return Route(Action.MODEL, Api.OPENAI, (b"GET", b"HEAD"), b"", argument)
    # with dots it could be another path to whoever is asked
    if path in _FLEET or (path.startswith(_BELOW_FLEET) and "/." not in path):
        return Route(Action.FLEET, Api.OLLAMA, _FLEET_METHODS, target)
    sentence = _OPERATORS_ONLY.get(path)
    if sentence is not None:
        raise Refusal(403, sentence, reason="Forbidden")
    raise Refusal(404, "404 page not found", reason="Path")


def api_of_target(target: bytes) -> Api:
    """The API whose error shape a refused target is answered in."""
    try:
        return api_of(decoded(target))
    except Refusal:
        return Api.OLLAMA
