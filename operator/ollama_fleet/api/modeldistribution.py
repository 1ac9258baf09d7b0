"""ModelDistribution: which models belong on which servers."""

from typing import Annotated, Literal

from pydantic import Field

from ollama_fleet.api.conditions import CONDITIONS, Conditions
from ollama_fleet.api.model import LabelSelector, Model, Name, rule, rules
from ollama_fleet.api.pattern import Pattern
from ollama_fleet.api.quantity import Duration, Interval, IntOrPercent, Quantity

DEFAULT_REGISTRY = "registry.ollama.ai"

ModelName = Annotated[
    str,
    Field(max_length=256),
    Pattern(
        r"^(([A-Za-z0-9_][A-Za-z0-9_.:-]*/)?[A-Za-z0-9_][A-Za-z0-9_-]{0,79}/)?"
        r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,79})?$",
        "not a model name: write it as ollama pull takes it, such as llama3.1:8b or "
        "hf.co/team/model:Q4_K_M",
    ),
]
LocalModelName = Annotated[
    ModelName,
    Pattern(
        "[:-]cloud$",
        "a cloud model, which runs elsewhere and cannot be installed: name a local model",
        forbidden=True,
    ),
]
Digest = Annotated[
    str,
    Field(max_length=128),
    Pattern(
        r"^sha256:[0-9a-f]{64}$",
        "not a digest: write sha256: and the 64 hexadecimal digits that /api/tags shows",
    ),
]
Weekday = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
Clock = Annotated[
    str,
    Field(max_length=64),
    Pattern(
        r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
        "not a time of day: write hours and minutes, such as 02:00 or 23:30",
    ),
]
TimeZone = Annotated[
    str,
    Field(max_length=64),
    Pattern(
        r"^[A-Za-z][A-Za-z0-9_+/-]*$",
        "not a time zone: write an IANA name, such as UTC or Asia/Shanghai",
    ),
]
Registry = Annotated[
    str,
    Field(max_length=253),
    Pattern(
        r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$",
        "not a registry: write the host alone, without scheme or path, such as "
        "registry.example.com:5000",
    ),
]
Cron = Annotated[
    str,
    Field(max_length=128),
    Pattern(
        r"^(@(hourly|daily|weekly|monthly)|([0-9A-Za-z*/,-]+ ){4}[0-9A-Za-z*/,#-]+)$",
        'not a schedule: write five cron fields, such as "0 3 * * *", or @daily',
    ),
]

_set = {"x-kubernetes-list-type": "set"}
_by_name = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class Window(Model):
    """Hours of the day, and days of the week, by the clock of a time zone. It may cross midnight.
    A start or an end that the clock jumps over is the moment of the jump; of one that comes twice,
    the first counts."""

    model_config = rules(
        rule("self.start != self.end", "start and end are the same: for all day, remove the window")
    )
    start: Clock = Field(description="Such as 02:00.")
    end: Clock = Field(description="Such as 06:00; before start: on the next day.")
    time_zone: TimeZone = Field(default="UTC", description="An IANA name, such as Asia/Shanghai.")
    days: (
        Annotated[list[Weekday], Field(min_length=1, max_length=7, json_schema_extra=_set)] | None
    ) = Field(default=None, description="Days it opens on; absent: every day.")


class WantedModel(Model):
    """A model that belongs on the servers."""

    model_config = rules(
        rule(
            "!has(self.schedule) || (has(self.preload) && self.preload)",
            "schedule says when a model is resident: set preload to true, or remove it",
            ".schedule",
        ),
    )
    name: LocalModelName = Field(description="As `ollama pull` takes it, such as llama3.1:8b.")
    digest: Digest | None = Field(
        default=None, description="Pins the model; another digest is drift and pulled again."
    )
    fallbacks: Annotated[list[LocalModelName], Field(max_length=8)] = Field(
        default=[], description="Taken in order when the model does not fit or cannot be pulled."
    )
    preload: bool = Field(
        default=False,
        description="Keep it in memory: loaded for good, and again after a restart or an eviction.",
    )
    schedule: Window | None = Field(default=None, description="Resident in these hours only.")


class Tier(Model):
    """What servers with at least this memory get."""

    min_memory: Quantity = Field(
        description="What a server must have; 97 % of it counts, as cards report less."
    )
    models: Annotated[
        list[WantedModel], Field(min_length=1, max_length=16, json_schema_extra=_by_name)
    ] = Field(description="What they get.")


class BestFit(Model):
    """The first of these whose computed need fits a server."""

    candidates: Annotated[
        list[LocalModelName], Field(min_length=1, max_length=32, json_schema_extra=_set)
    ] = Field(
        description="Model names, the most wanted first. Where none fits, the one that needs "
        "least is told as a misfit."
    )


class Target(Model):
    """Which servers; absent: every server in the namespace."""

    ollama_nodes: (
        Annotated[list[Name], Field(min_length=1, max_length=64, json_schema_extra=_set)] | None
    ) = Field(default=None, description="OllamaNodes by name.")
    selector: LabelSelector | None = Field(
        default=None, description="OllamaNodes with these labels."
    )
    servers: (
        Annotated[list[Name], Field(min_length=1, max_length=256, json_schema_extra=_set)] | None
    ) = Field(default=None, description="Servers by name, such as a100-0.")


class Sizing(Model):
    """What a model's need of memory is computed for. What is absent is as the server is set."""

    context_length: int | None = Field(
        default=None,
        ge=256,
        le=4_194_304,
        description="Tokens of context per request. Absent: server.contextLength of the "
        "OllamaNode.",
    )
    parallel: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Requests at a time, each with its own context; one for models that embed. "
        "Absent: server.parallel.",
    )
    kv_cache_type: Literal["f16", "q8_0", "q4_0"] | None = Field(
        default=None, description="How the context is kept. Absent: server.kvCacheType."
    )
    headroom: Quantity = Field(
        default="1Gi",
        description="Memory left free beside the model, on each GPU it is spread over; at least "
        "512Mi count there, which CUDA takes for itself.",
    )
    on_misfit: Literal["Skip", "Fallback", "PullAnyway"] = Field(
        default="Fallback",
        description="What becomes of a model that does not fit. Skip: it is a Misfit and not "
        "pulled. Fallback: the first of its fallbacks that fits is taken, else as Skip. "
        "PullAnyway: pulled all the same. What is installed stays in any case.",
    )


class Source(Model):
    """Where models come from."""

    model_config = rules(
        rule(
            "!has(self.insecure) || !self.insecure || has(self.registry)",
            "insecure means plain HTTP: name the registry it is for",
            ".insecure",
        )
    )
    registry: Registry = Field(
        default=DEFAULT_REGISTRY, description="Host, with a port if need be; no scheme."
    )
    insecure: bool = Field(default=False, description="Plain HTTP.")
    mirror: bool = Field(
        default=True,
        description="Through the fleet's mirror, where there is one that serves the registry. "
        "Servers outside the cluster pull from the registry itself.",
    )


class Retry(Model):
    """What happens after a pull fails."""

    attempts: int = Field(default=3, ge=1, le=100, description="Pulls tried, the first included.")
    backoff: Duration = Field(default="20s", description="Before the second attempt; doubles.")


class Rollout(Model):
    """How many pulls, when, and how persistent."""

    max_parallel: IntOrPercent = Field(
        default=2,
        description="Pulls at once: a count, or a percentage of the servers.",
    )
    window: Window | None = Field(
        default=None,
        description="Pulls run in these hours only: those under way at the end stop, and "
        "go on where they were at the next start. What is installed stays.",
    )
    schedule: Cron | None = Field(
        default=None,
        description="Cron, in the time zone of window or else UTC: when what is installed is "
        "compared with the registry. What differs and is not pinned is pulled again, in the window "
        "if there is one; under pullPolicy Never it is reported. A time that passed while the "
        "operator was away is made up for. Absent: what is installed is left alone.",
    )
    retry: Retry = Retry()
    stall_timeout: Interval = Field(
        default="2m", description="A pull without a byte for this long is tried again."
    )


class ModelDistributionSpec(Model):
    """What is wanted."""

    model_config = rules(
        rule(
            "has(self.models) || has(self.tiers) || has(self.bestFit)",
            "write what to install: models (by name), tiers (by memory) or bestFit (the largest "
            "that fits)",
        ),
        rule(
            "!has(self.tiers) || !self.tiers.all(t, isQuantity(string(t.minMemory))) || "
            "self.tiers.map(t, -quantity(string(t.minMemory)).asApproximateFloat()).isSorted()",
            "tiers go from the largest minMemory to the smallest, as the first that matches "
            "is taken: reorder them",
            ".tiers",
        ),
    )
    target: Target = Target()
    models: (
        Annotated[list[WantedModel], Field(min_length=1, max_length=64, json_schema_extra=_by_name)]
        | None
    ) = Field(default=None, description="Models that every server gets.")
    tiers: Annotated[list[Tier], Field(min_length=1, max_length=16)] | None = Field(
        default=None, description="The first whose minMemory a server has."
    )
    best_fit: BestFit | None = None
    sizing: Sizing = Sizing()
    source: Source = Source()
    rollout: Rollout = Rollout()
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent",
        description="IfNotPresent: pull what is missing. Always: also compare what is installed "
        "with the registry when the spec has changed, a server is new or the operator has started, "
        "and pull what differs. Never: report what is missing or differs.",
    )
    prune: Literal["Never", "Unlisted"] = Field(
        default="Never",
        description="Unlisted: delete models from these servers that no distribution wants there, "
        "once what is wanted is there and nothing uses them.",
    )
    dry_run: bool = Field(default=False, description="Plan into status and do nothing.")
    suspend: bool = Field(default=False, description="Stop pulling; keep what there is.")


TaskState = Literal["Waiting", "Pulling", "Verifying", "Installed", "Failed", "Misfit", "Paused"]


class TaskStatus(Model):
    """One model on one server, from wanted to verified. Sizes in bytes."""

    id: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="The same for the life of the task."
    )
    server: Annotated[str, Field(max_length=253)] = Field(description="The server's name.")
    model: Annotated[str, Field(max_length=256)] = Field(
        description="The model's name, with its tag."
    )
    state: TaskState = Field(description="Misfit: the server is too small for it.")
    reason: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="Why, in one word: docs/reference/reasons.md explains each."
    )
    progress: float = Field(default=0.0, ge=0, le=1, description="How much is there: 0 to 1.")
    completed_bytes: int | None = Field(default=None, ge=0, description="Bytes that are there.")
    total_bytes: int | None = Field(default=None, ge=0, description="Bytes it has in all.")
    bytes_per_second: int | None = Field(default=None, ge=0, description="How fast it comes.")
    digest: Annotated[str | None, Field(max_length=71)] = Field(
        default=None, description="Of what is installed."
    )
    attempts: int = Field(default=0, ge=0, description="Pulls that failed.")
    error: Annotated[str | None, Field(max_length=512)] = Field(
        default=None, description="How the latest pull failed."
    )
    error_reason: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="The same in one word."
    )
    failed_at: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="When the latest pull failed."
    )
    next_attempt_at: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="When it is tried again."
    )
    created_at: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="When the model was first wanted there."
    )
    updated_at: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="When any of this last changed."
    )
    message: Annotated[str | None, Field(max_length=1024)] = Field(
        default=None, description="How far it is, what it waits for, or what is wrong."
    )


class Summary(Model):
    """Tasks, counted."""

    desired: int = Field(default=0, ge=0, description="All of them.")
    installed: int = Field(default=0, ge=0, description="On disk, with the right digest.")
    pulling: int = Field(default=0, ge=0, description="Under way, or being verified.")
    waiting: int = Field(default=0, ge=0, description="Waiting, or paused.")
    failed: int = Field(default=0, ge=0, description="Given up until you act.")
    misfit: int = Field(default=0, ge=0, description="On servers too small for them.")
    drifted: int = Field(default=0, ge=0, description="There with another digest than wanted.")
    unlisted: int = Field(
        default=0,
        ge=0,
        description="Models on these servers that no distribution wants, where prune is Unlisted.",
    )


class Progress(Model):
    """All pulls together. Sizes in bytes."""

    completed_bytes: int = Field(default=0, ge=0, description="Bytes that are there.")
    total_bytes: int = Field(default=0, ge=0, description="Bytes of all tasks.")
    bytes_per_second: int = Field(default=0, ge=0, description="How fast they come.")
    percent: Annotated[str | None, Field(max_length=8)] = Field(
        default=None, description="How much is there, such as 61%."
    )
    eta: Annotated[str | None, Field(max_length=32)] = Field(
        default=None, description="Time left, such as 4m10s."
    )


class OutdatedModel(Model):
    """A digest of a model that the registry no longer gives."""

    model: Annotated[str, Field(max_length=256)] = Field(
        description="The model's name, with its tag."
    )
    digest: Annotated[str, Field(max_length=71)] = Field(description="Of what is installed.")


class ManifestRef(Model):
    """The ConfigMap that lists what is installed, for audit; nothing ever deletes it."""

    name: Name = Field(description="The ConfigMap's name.")
    parts: int = Field(
        default=1, ge=1, description="More than one: the others are called NAME-2 and so on."
    )


class ModelDistributionStatus(Model):
    """What is."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="The generation of the spec that all of this is about."
    )
    summary: Summary = Summary()
    progress: Progress = Progress()
    tasks: Annotated[
        list[TaskStatus],
        Field(
            max_length=50,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["id"],
            },
        ),
    ] = Field(default=[], description="Failed first, then running, then waiting.")
    tasks_omitted: int = Field(
        default=0, ge=0, description="Tasks beyond the first 50, which are not shown."
    )
    next_window: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="When pulls may run again."
    )
    next_sync: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="When digests are compared with the registry again."
    )
    last_sync: Annotated[str | None, Field(max_length=64)] = Field(
        default=None,
        description="When they last were; before the first time, since when the schedule counts.",
    )
    outdated: Annotated[list[OutdatedModel], Field(max_length=128)] = Field(
        default=[], description="What they found installed that the registry has other digests of."
    )
    manifest_ref: ManifestRef | None = None
    conditions: Conditions = CONDITIONS


class ModelDistribution(Model):
    """Which models belong on which servers, sized to each server's memory."""

    spec: ModelDistributionSpec
    status: ModelDistributionStatus | None = None
