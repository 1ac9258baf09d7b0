"""What an OllamaNode reports of its servers."""

from typing import Annotated, Literal

from pydantic import Field

from ollama_fleet.api.conditions import CONDITIONS, Conditions
from ollama_fleet.api.model import (
    Model,
)
from ollama_fleet.api.quantity import Amount, Quantity

ServerState = Literal["Ready", "Starting", "Draining", "Offline", "Unfit"]


class ServerStatus(Model):
    """One server as last seen. Sizes in bytes are quantities."""

    name: Annotated[str, Field(max_length=253)] = Field(
        description="That of its pod; with perNode of OllamaNode and machine, elsewhere of the "
        "OllamaNode."
    )
    state: ServerState = Field(
        description="Unfit: it serves, and spec.requirements keep new models away."
    )
    kubernetes_node: Annotated[str | None, Field(max_length=253)] = Field(
        default=None, description="The machine its pod runs on."
    )
    address: Annotated[str | None, Field(max_length=2048)] = Field(
        default=None, description="The URL it answers at."
    )
    version: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="Of Ollama, as the server tells it."
    )
    gpu: Annotated[str | None, Field(max_length=128)] = Field(
        default=None, description="What GPU it has, as its driver or the machine's labels call it."
    )
    memory_total: Quantity | None = Field(
        default=None, description="Memory for models: of all its GPUs together."
    )
    memory_source: Annotated[str | None, Field(max_length=256)] = Field(
        default=None, description="How that is known, or what to do so that it is."
    )
    memory_used: Quantity | None = Field(
        default=None, description="What the resident models hold of it."
    )
    disk_total: Quantity | None = Field(
        default=None, description="What its store can hold; absent where nothing tells it."
    )
    disk_free: Quantity | None = Field(
        default=None,
        description="What models leave of that, layers they share counted once. At least so much "
        "is free: of a model that no distribution ever named the layers are not known.",
    )
    cpu_used: Amount | None = Field(
        default=None,
        description="Cores its pod uses, where the cluster has metrics; some minutes old.",
    )
    ram_used: Quantity | None = Field(
        default=None,
        description="Memory its pod uses of the machine's own, not of the GPU's; likewise.",
    )
    installed: int | None = Field(default=None, ge=0, description="Models on its disk.")
    resident: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field(
        default=[], description="Models in its memory, the first 64."
    )
    restoring: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field(
        default=[],
        description="Models in memory before the server was replaced; loaded again before the next "
        "one goes.",
    )
    preloaded: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field(
        default=[], description="Models that are kept in its memory, as distributions ask for."
    )
    wedged: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] = Field(
        default=[],
        description="Models that it does not answer with any more, as routers found; it is "
        "replaced for that.",
    )
    wedged_restarts: int | None = Field(
        default=None, ge=1, description="How often it was replaced for that lately."
    )
    wedged_restarted_at: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="When it last was."
    )
    active_requests: int | None = Field(
        default=None, ge=0, description="Requests that routers have under way there."
    )
    registered_at: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="When it first answered."
    )
    last_seen: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="When it last answered, to some five minutes while all is well."
    )
    message: Annotated[str | None, Field(max_length=1024)] = Field(
        default=None, description="What is wrong with it, and what to do."
    )


class MemoryStatus(Model):
    """Memory for models, and where the figure comes from."""

    per_server: Quantity | None = Field(
        default=None, description="Of each server; where they differ, of the smallest."
    )
    source: Annotated[str, Field(max_length=256)] = Field(description="How that is known.")


class PinStatus(Model):
    """A model that gets requests with this digest only."""

    model: Annotated[str, Field(max_length=256)] = Field(description="In lower case.")
    digest: Annotated[str, Field(max_length=71)] = Field(description="The only one it may have.")
    servers: (
        Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=1000)] | None
    ) = Field(default=None, description="Where; absent: on every server.")


class OllamaNodeStatus(Model):
    """What is."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="The generation of the spec that all of this is about."
    )
    replicas: int = Field(default=0, ge=0, description="Servers there are.")
    ready_replicas: int = Field(default=0, ge=0, description="Servers in state Ready.")
    updated_replicas: int = Field(
        default=0, ge=0, description="Servers that are as the newest spec says."
    )
    ready: Annotated[str, Field(max_length=16)] = Field(
        default="0/0", description="Servers ready, of those wanted."
    )
    selector: Annotated[str, Field(max_length=512)] = Field(
        default="", description="Labels of the pods, for the scale subresource."
    )
    version: Annotated[str | None, Field(max_length=64)] = Field(
        default=None, description="Of Ollama; every one there is, where they differ."
    )
    models: int = Field(default=0, ge=0, description="Different models installed.")
    memory: MemoryStatus | None = None
    volume_size: Quantity | None = Field(
        default=None, description="What every server's volume has, or is promised."
    )
    servers: Annotated[
        list[ServerStatus],
        Field(max_length=100),
    ] = Field(default=[], description="Troubled ones first.")
    servers_omitted: int = Field(
        default=0, ge=0, description="Servers beyond the first 100, which are not shown."
    )
    pins: Annotated[list[PinStatus], Field(max_length=1024)] = Field(
        default=[], description="What ModelDistributions pin on these servers, for routers."
    )
    conditions: Conditions = CONDITIONS
