"""The shapes of the fleet API, as they are on the wire."""

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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
    ollama_version: Annotated[str, Field(max_length=64)]
    ollama_port: Annotated[int, Field(ge=1, le=65535)]
    gpu_model: Annotated[str, Field(max_length=128)] | None = None
    gpu_memory_bytes: Annotated[int, Field(ge=0, le=2**50)] | None = Field(
        default=None, description="Of each GPU."
    )
    gpu_count: Annotated[int, Field(ge=0, le=64)] | None = None


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
    active_requests: Annotated[int, Field(ge=0, le=2**31)]


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


class Distribution(Asked):
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
    digest: str | None


class Tasks(Told):
    """A page of tasks, the newest first."""

    tasks: list[Task]
    total: int = Field(description="How many there are in all, of those asked for.")
    offset: int
    limit: int


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
