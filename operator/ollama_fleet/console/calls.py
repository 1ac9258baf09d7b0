"""The calls of the fleet API: what each takes, answers and refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from ollama_fleet.console import wire


@dataclass(frozen=True)
class Parameter:
    """Something in the path or the query; ``schema`` as in OpenAPI."""

    name: str
    about: str
    schema: Mapping[str, Any]
    place: str = "query"


@dataclass(frozen=True)
class Answer:
    """What a status comes with: a shape, a list of it, a stream of text, or nothing."""

    about: str
    shape: type[BaseModel] | None = None
    many: bool = False
    stream: bool = False


@dataclass(frozen=True)
class Call:
    """One call. ``handler`` is the name of its method in `app.Api`."""

    method: str
    path: str
    handler: str
    about: str
    answers: Mapping[int, Answer]
    refusals: tuple[int, ...]
    takes: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = field(default=())
    authenticated: bool = True

    @property
    def statuses(self) -> tuple[int, ...]:
        """Every refusal there may be."""
        always: tuple[int, ...] = (400,)
        if self.authenticated:
            always += (401, 403, 503)
        if self.method != "GET":
            always += (413,)
        return tuple(sorted({*always, *self.refusals}))


REFUSALS = {
    400: "The request is not one: a field is missing or wrong, or no model has such a name.",
    401: "No bearer token, or none that Kubernetes knows; nobody changes anything without one.",
    403: "RBAC does not allow it, or the request comes from another site's page.",
    404: "No such agent, task or model, or none that one may see.",
    409: "It conflicts with what is there.",
    413: "The body is too large.",
    503: "The agent is offline, Kubernetes cannot be asked, or one has too many streams open.",
    507: "The storage is too small.",
}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 512}
_AGENT = Parameter("id", "The agent's id.", _TEXT, "path")
_NAMESPACE = Parameter(
    "namespace",
    "One namespace alone; absent: all that one may see.",
    {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
)
_RESOURCE = Parameter("id", "The resource's id: NAMESPACE.NAME.", _TEXT, "path")
_INTO = Parameter(
    "namespace",
    "Where the machine's OllamaNode is made; absent: where the console was told.",
    _NAMESPACE.schema,
)


def _count(name: str, about: str, least: int, most: int, default: int | None = None) -> Parameter:
    schema: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    return Parameter(name, about, schema | ({} if default is None else {"default": default}))


OFFSET, LIMIT = (
    _count("offset", "Tasks to leave out.", 0, 10**6, 0),
    _count("limit", "Tasks to show.", 1, 500, 100),
)
CONTEXT = _count("context", "Tokens of context; absent: as each server is set.", 256, 4_194_304)
PARALLEL = _count("parallel", "Requests at a time; absent: as each server is set.", 1, 256)

CALLS = (
    Call(
        "POST",
        "/api/agents",
        "register",
        "Register a machine outside Kubernetes, or make it known again. The same machine_name and "
        "port is the same agent.",
        {
            200: Answer("It was known.", wire.Registered),
            201: Answer("It is known now.", wire.Registered),
        },
        (409,),
        wire.Registration,
        (_INTO,),
    ),
    Call(
        "GET",
        "/api/agents",
        "agents",
        "Every server, of every kind.",
        {200: Answer("The servers.", wire.Agent, many=True)},
        (),
        parameters=(_NAMESPACE,),
    ),
    Call(
        "GET",
        "/api/agents/{id}",
        "agent",
        "One server.",
        {200: Answer("The server.", wire.Agent)},
        (404,),
        parameters=(_AGENT,),
    ),
    Call(
        "DELETE",
        "/api/agents/{id}",
        "remove",
        "Remove a server outside Kubernetes; what runs there is left alone. Pods are removed by "
        "scaling their OllamaNode.",
        {204: Answer("It is gone.")},
        (404, 409),
        parameters=(_AGENT,),
    ),
    Call(
        "POST",
        "/api/health",
        "health",
        "Report how a registered machine does; one that is not known is to register again.",
        {204: Answer("It is kept.")},
        (404, 409),
        wire.Health,
    ),
    Call(
        "GET",
        "/api/agents/{id}/models",
        "models",
        "The models on a server's disk.",
        {200: Answer("The models.", wire.InstalledModel, many=True)},
        (404,),
        parameters=(_AGENT,),
    ),
    Call(
        "POST",
        "/api/agents/{id}/models/pull",
        "pull",
        "Have a server have a model. It becomes a ModelDistribution; what was given up is tried "
        "again.",
        {202: Answer("It is on its way.", wire.PullStarted)},
        (404, 409, 507),
        wire.Pull,
        (_AGENT,),
    ),
    Call(
        "POST",
        "/api/models/distribute",
        "distribute",
        "Have several servers have a model: those named, or all of them, those to come included.",
        {202: Answer("It is on its way.", wire.DistributionStarted)},
        (404, 409, 507),
        wire.Distribute,
        (_NAMESPACE,),
    ),
    Call(
        "GET",
        "/api/models/available",
        "available",
        "The models on offer: those built in, and those of the ConfigMap ollama-fleet-catalogue.",
        {200: Answer("The models.", wire.Offered)},
        (),
    ),
    Call(
        "GET",
        "/api/tasks",
        "tasks",
        "Every task, the newest first.",
        {200: Answer("A page of them.", wire.Tasks)},
        (),
        parameters=(
            Parameter(
                "status",
                "Of this status alone.",
                {"type": "string", "enum": ["pending", "downloading", "completed", "failed"]},
            ),
            Parameter("agent_id", "Of this agent alone.", _TEXT),
            Parameter("model_name", "Of this model alone.", _TEXT),
            _NAMESPACE,
            OFFSET,
            LIMIT,
        ),
    ),
    Call(
        "GET",
        "/api/tasks/{id}",
        "task",
        "One task.",
        {200: Answer("The task.", wire.Task)},
        (404,),
        parameters=(Parameter("id", "The task's id.", _TEXT, "path"),),
    ),
    Call(
        "POST",
        "/api/tasks/{id}/retry",
        "retry",
        "Try again what was given up: this task, and every other of its ModelDistribution. Nothing "
        "is deleted.",
        {202: Answer("It begins anew.", wire.Task)},
        (404, 409),
        parameters=(Parameter("id", "The task's id.", _TEXT, "path"),),
    ),
    Call(
        "GET",
        "/api/me",
        "me",
        "Who asks, and what they may change where. Whoever may see nothing is told no namespaces.",
        {200: Answer("Whoever asks.", wire.Me)},
        (),
    ),
    Call(
        "GET",
        "/api/nodes",
        "nodes",
        "Every OllamaNode.",
        {200: Answer("The OllamaNodes.", wire.Node, many=True)},
        (),
        parameters=(_NAMESPACE,),
    ),
    Call(
        "PATCH",
        "/api/nodes/{id}",
        "cordon",
        "Cordon an OllamaNode, or uncordon it.",
        {200: Answer("It is so.", wire.Node)},
        (404, 409),
        wire.Cordon,
        (_RESOURCE,),
    ),
    Call(
        "GET",
        "/api/distributions",
        "distributions",
        "Every ModelDistribution.",
        {200: Answer("The ModelDistributions.", wire.Distribution, many=True)},
        (),
        parameters=(_NAMESPACE,),
    ),
    Call(
        "PATCH",
        "/api/distributions/{id}",
        "suspend",
        "Suspend a ModelDistribution, or have it go on. Pulls under way stop, and resume later.",
        {200: Answer("It is so.", wire.Distribution)},
        (404, 409),
        wire.Suspend,
        (_RESOURCE,),
    ),
    Call(
        "GET",
        "/api/routers",
        "routers",
        "Every Router, and what passes through it: where nobody has looked lately its pods are "
        "asked twice within a second or two first.",
        {200: Answer("The Routers.", wire.Router, many=True)},
        (),
        parameters=(_NAMESPACE,),
    ),
    Call(
        "GET",
        "/api/fit",
        "fit",
        "Whether a model would fit, server by server, before a byte of it is pulled.",
        {200: Answer("The verdicts.", wire.Fits)},
        (404,),
        parameters=(
            Parameter("model", "The model's name.", _TEXT),
            CONTEXT,
            PARALLEL,
            Parameter(
                "kv_cache_type",
                "How the context is kept; absent: as each server is set.",
                {"type": "string", "enum": ["f16", "q8_0", "q4_0"]},
            ),
            _NAMESPACE,
        ),
    ),
    Call(
        "GET",
        "/api/events",
        "events",
        "Everything that changes, as server-sent events. First `agent`, `node`, `task`, "
        "`distribution` and `router` for each there is, then `synced`; from then on the same for "
        'each that changes, and `agent-removed` and so on with its `{"id"}` for each that goes. '
        "Every 2 s `traffic` for each Router whose traffic has changed: the Router's `id`, and the "
        "fields of Traffic. `event` for each Kubernetes Event about a resource of these kinds: "
        "first the latest 200, the oldest first.",
        {200: Answer("A stream that does not end by itself.", stream=True)},
        (),
        parameters=(_NAMESPACE,),
    ),
)

REQUIRED = frozenset({("/api/fit", "model")})
"""Parameters of the query that must be there."""
