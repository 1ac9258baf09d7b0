"""What a ModelDistribution reports of its tasks."""

from typing import Annotated, Literal

from pydantic import Field

from ollama_fleet.api.conditions import CONDITIONS, Conditions
from ollama_fleet.api.model import Model, Name

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
    drifted: bool | None = Field(
        default=None, description="True: that is another digest than is wanted."
    )
    wanted_digest: Annotated[str | None, Field(max_length=71)] = Field(
        default=None, description="Where it drifted, the right one if known."
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
        Field(max_length=50),
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
