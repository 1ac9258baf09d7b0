"""ModelDistribution: which models belong on which servers."""

from typing import Annotated, Literal

from pydantic import Field

from ollama_fleet.api.model import LabelSelector, Model, Name, each_once, rule, rules
from ollama_fleet.api.pattern import Pattern
from ollama_fleet.api.quantity import Duration, Interval, IntOrPercent, Quantity
from ollama_fleet.api.taskstatus import ModelDistributionStatus

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
        Annotated[list[Weekday], Field(min_length=1, max_length=7, json_schema_extra=each_once())]
        | None
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
        default=[],
        description="Taken in order when the model does not fit, finds no room on the disk, or "
        "cannot be pulled.",
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
    """The first of these whose computed need fits a server's memory, and that its disk has room
    for."""

    candidates: Annotated[
        list[LocalModelName], Field(min_length=1, max_length=32, json_schema_extra=each_once())
    ] = Field(
        description="Model names, the most wanted first. Where none fits, the one that needs "
        "least is told as a misfit."
    )


class Target(Model):
    """Which servers; absent: every server in the namespace."""

    ollama_nodes: (
        Annotated[list[Name], Field(min_length=1, max_length=64, json_schema_extra=each_once())]
        | None
    ) = Field(default=None, description="OllamaNodes by name.")
    selector: LabelSelector | None = Field(
        default=None, description="OllamaNodes with these labels."
    )
    servers: (
        Annotated[list[Name], Field(min_length=1, max_length=256, json_schema_extra=each_once())]
        | None
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


class ModelDistribution(Model):
    """Which models belong on which servers, sized to each server's memory."""

    spec: ModelDistributionSpec
    status: ModelDistributionStatus | None = None
