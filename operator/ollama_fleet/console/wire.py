"""The shapes of the fleet API, as they are on the wire."""

from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Status = Literal["online", "offline"]
TaskStatus = Literal["pending", "downloading", "completed", "failed"]


class Asked(BaseModel):
    """What is sent: types are taken as they are, fields that nobody knows are left alone."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", protected_namespaces=())


class Told(BaseModel):
    """What is answered."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


def _address(text: str) -> str:
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError("no IP address: write it like 192.168.1.20") from None
    if found.is_unspecified or found.is_multicast or "%" in text:
        raise ValueError("no address of one machine: write it like 192.168.1.20")
    return str(found)


def _whole(value: Any) -> Any:
    """3.0 is an integer in JSON, and what some languages write for 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
"""Text that is one line, in a log too."""
_WHOLE = BeforeValidator(_whole)
AgentId = Annotated[str, Field(min_length=1, max_length=512, description="As GET /api/agents")]
Model = Annotated[
    str, Field(max_length=512, description="As `ollama pull` takes it, such as llama3.1:8b.")
]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Registration(Asked):
    """A machine outside Kubernetes, as it makes itself known."""

    machine_name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[!-~]+$")] = Field(
        description="With the port it is what the machine is known by."
    )
    ip_address: Annotated[str, Field(max_length=45), AfterValidator(_address)] = Field(
        description="Where the fleet reaches it.",
        json_schema_extra={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    )
    ollama_version: Annotated[str, Field(max_length=64, pattern=_LINE)]
    ollama_port: Annotated[int, Field(ge=1, le=65535), _WHOLE]
    gpu_model: Annotated[str, Field(max_length=128, pattern=_LINE)] | None = None
    gpu_memory_bytes: Annotated[int, Field(ge=0, le=2**50), _WHOLE] | None = Field(
        default=None, description="Of each GPU."
    )
    gpu_count: Annotated[int, Field(ge=0, le=64), _WHOLE] | None = None


class Registered(Told):
    """How a machine is called from now on."""

    agent_id: str
    status: Literal["registered"] = "registered"


class Agent(Told):
    """A server of whatever kind."""

    id: str = Field(description="The same for the life of the server.")
    machine_name: str = Field(description="The machine it runs on.")
    ip_address: str = Field(description="Empty before it has one.")
    ollama_version: str = Field(description="Empty before it told.")
    ollama_port: int
    status: Status
    registered_at: Moment
    last_seen: Moment
    name: str = Field(description="The server's name in Kubernetes.")
    namespace: str
    ollama_node: str = Field(description="The OllamaNode it belongs to.")
    kind: Literal["pod", "external"]
    state: str = Field(description="Ready, Starting, Draining, Offline or Unfit.")
    cordoned: bool
    message: str | None = Field(description="What is wrong with it, and what to do.")
    gpu_model: str | None
    gpu_count: Count | None
    gpu_memory_bytes: Count | None = Field(description="Of each GPU.")
    memory_bytes: Count | None = Field(description="For models, in all.")
    memory_used_bytes: Count | None = Field(description="What resident models hold of it.")
    disk_bytes: Count | None
    disk_free_bytes: Count | None
    cpu_usage: float | None = Field(description="Percent, as its agent reports.")
    memory_usage: float | None = Field(description="Percent, as its agent reports.")
    active_requests: Count | None
    models_installed: Count | None
    models_resident: list[str]


class Health(Asked):
    """How a registered machine does."""

    agent_id: AgentId
    cpu_usage: Percent = Field(description="Percent.")
    memory_usage: Percent = Field(description="Percent.")
    active_requests: Annotated[int, Field(ge=0, le=2**31), _WHOLE]


class InstalledModel(Told):
    """A model on a server's disk."""

    name: str
    size_gb: float = Field(description="10^9 bytes.")
    installed_at: Moment
    digest: str


class Pull(Asked):
    """A model for one server."""

    model_name: Model


class PullStarted(Told):
    """What to follow it by."""

    task_id: str


class Distribute(Asked):
    """A model for several servers."""

    model_name: Model
    target: Literal["all", "specific"]
    agent_ids: Annotated[list[AgentId], Field(max_length=256)] | None = Field(
        default=None, description="With target specific."
    )


class DistributionStarted(Told):
    """What to follow it by, one for each server."""

    task_ids: list[str]


class OfferedModel(Told):
    """A model to choose."""

    name: str
    display_name: str
    size_gb: float = Field(description="10^9 bytes.")
    description: str


class Offered(Told):
    """The models on offer."""

    models: list[OfferedModel]
    source: str
    problem: str | None = Field(default=None, description="What is wrong with the list, if it is.")


class Task(Told):
    """One model on one server, from wanted to verified."""

    id: str
    agent_id: str
    model_name: str
    status: TaskStatus
    progress: Annotated[float, Field(ge=0, le=1)]
    download_speed_bps: Count = Field(description="Bytes a second.")
    created_at: Moment
    updated_at: Moment
    error: str | None = Field(default=None, description="Why it failed.")
    namespace: str
    distribution: str = Field(description="The ModelDistribution it is of.")
    state: str = Field(description="As the ModelDistribution tells it.")
    reason: str | None
    message: str | None
    completed_bytes: Count | None
    total_bytes: Count | None
    digest: str | None = Field(description="Of what is installed.")
    drifted: bool = Field(description="It is installed with another digest than is wanted.")
    wanted_digest: str | None = Field(description="Where it drifted, the right one if known.")


class Tasks(Told):
    """A page of tasks, the newest first."""

    tasks: list[Task]
    total: int = Field(description="How many there are in all, of those asked for.")
    offset: int
    limit: int


class Rights(Told):
    """What whoever asks may change in a namespace."""

    namespace: str
    cordon: bool = Field(description="Cordon OllamaNodes, and uncordon them.")
    distribute: bool = Field(description="Have models installed.")
    change: bool = Field(description="Suspend ModelDistributions, and have tasks tried again.")


class Me(Told):
    """Whoever asks, as Kubernetes knows them."""

    name: str = Field(description="Empty without a token.")
    anonymous: bool
    namespaces: list[Rights] = Field(description="Those with a fleet that one may see.")


class Resource(Told):
    """A custom resource."""

    id: str
    namespace: str
    name: str
    ready: bool
    stalled: bool = Field(description="It waits for somebody to act.")
    reason: str | None = Field(description="Why it is as it is, in one word.")
    message: str | None = Field(description="The same in a sentence, with what to do.")


class Node(Resource):
    """An OllamaNode: servers that are alike."""

    cordoned: bool = Field(description="It is sent no new requests and no new pulls.")
    replicas: Count = Field(description="Servers there are.")
    ready_replicas: Count
    servers_omitted: Count = Field(description="Servers that it does not tell of, being too many.")


class Cordon(Asked):
    """A change of an OllamaNode."""

    cordoned: bool


class Distribution(Resource):
    """A ModelDistribution: which models belong on which servers."""

    models: list[str] = Field(description="Every model it names, fallbacks included.")
    suspended: bool
    desired: Count = Field(description="Tasks in all.")
    installed: Count
    pulling: Count
    waiting: Count
    failed: Count = Field(description="Given up until somebody acts.")
    misfit: Count = Field(description="On servers too small for them.")
    drifted: Count = Field(description="There with another digest than is wanted.")
    tasks_omitted: Count = Field(description="Tasks that it does not tell of, being too many.")
    next_window: Moment | None = Field(description="When pulls may run again.")


class Suspend(Asked):
    """A change of a ModelDistribution."""

    suspended: bool


class Decision(Told):
    """How often a server was chosen for a reason."""

    reason: str
    per_second: float


class ServerTraffic(Told):
    """What passes through a router to one server."""

    name: str
    in_flight: Count
    requests_per_second: float | None
    state: str = Field(description="As the router sees it.")
    breaker: Literal["closed", "half-open", "open"] = Field(
        description="closed: it gets requests; half-open: one may try; open: none."
    )
    decisions: list[Decision] = Field(description="Why it was chosen, the most frequent first.")


class Traffic(Told):
    """What passes through a router, all its replicas together; null where nothing happened."""

    window_s: float = Field(description="The seconds that the rates and quantiles are of.")
    requests_per_second: float | None = Field(description="Answered in full.")
    tokens_per_second: float | None = Field(description="Given out.")
    first_token_p50_s: float | None = Field(description="Half of the answers began by then.")
    first_token_p99_s: float | None = Field(description="99 of 100 answers began by then.")
    in_flight: Count = Field(description="Requests at servers now.")
    queued: Count = Field(description="Requests that wait for a server now.")
    rejected_per_second: float | None
    retried_per_second: float | None
    servers: list[ServerTraffic]


class Router(Resource):
    """A Router: one URL for many servers."""

    url: str | None
    replicas: Count
    ready_replicas: Count
    servers_ready: Count
    servers: Count
    models: list[str]
    traffic: Traffic | None = Field(
        default=None, description="null: none of its pods tells. Events `router` leave it out."
    )


class Event(Told):
    """A Kubernetes Event about an OllamaNode, a ModelDistribution or a Router, as events `event` of
    the stream tell it."""

    id: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    kind: str = Field(description="Of the resource it is about.")
    namespace: str
    name: str = Field(description="Of the resource it is about.")
    count: Annotated[int, Field(ge=1)] = Field(description="How often it happened.")
    last_seen: Moment


class Verdict(Told):
    """Whether a model fits one server."""

    agent_id: str
    machine_name: str
    fits: bool | None = Field(description="null: what the server has is not known.")
    installed: bool | None = Field(description="null: not known.")
    need_bytes: int
    has_bytes: int | None
    estimated: bool = Field(description="By the model's size alone.")
    needs_disk_bytes: int
    disk_free_bytes: int | None
    context_length: int
    parallel: int
    kv_cache_type: str
    message: str


class Fits(Told):
    """The verdict on a model for every server."""

    model: str
    size_gb: float
    source: str = Field(description="registry or catalogue: where its size is from.")
    verdicts: list[Verdict]


class Error(Told):
    """Why not, and what to do instead. More fields may follow."""

    model_config = ConfigDict(extra="allow")
    error: str
