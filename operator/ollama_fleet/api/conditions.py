"""Conditions, and the fixed list of reasons they give."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from ollama_fleet.api.model import Model

Status = Literal["True", "False", "Unknown"]


class Reason(StrEnum):
    """Why a condition or a task is as it is. The reference documents each."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    CORDONED = "Cordoned"
    SUSPENDED = "Suspended"
    DRY_RUN = "DryRun"
    UP_TO_DATE = "UpToDate"
    # waiting on the user
    INVALID_SPEC = "InvalidSpec"
    UNSUPPORTED = "Unsupported"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    VOLUME_UNBOUND = "VolumeUnbound"
    VOLUME_NOT_EXPANDABLE = "VolumeNotExpandable"
    STORE_SHARED = "StoreShared"
    CRASH_LOOP = "CrashLoop"
    OUT_OF_MEMORY = "OutOfMemory"
    POD_REFUSED = "PodRefused"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_FORBIDDEN = "PodForbidden"
    MACHINE_NOT_READY = "MachineNotReady"
    GPU_GONE = "GpuGone"
    APPLY_REFUSED = "ApplyRefused"
    LOAD_FAILED = "LoadFailed"
    UNREACHABLE = "Unreachable"
    WEDGED = "Wedged"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 (a reason, not a secret)
    INVALID_SECRET = "InvalidSecret"  # noqa: S105
    SECRET_FORBIDDEN = "SecretForbidden"  # noqa: S105
    REQUIREMENTS_UNMET = "RequirementsUnmet"
    NO_SERVERS = "NoServers"
    NO_MATCHING_TIER = "NoMatchingTier"
    MEMORY_UNKNOWN = "MemoryUnknown"
    NOT_ENOUGH_DISK = "NotEnoughDisk"
    DOES_NOT_FIT = "DoesNotFit"
    MODEL_NOT_FOUND = "ModelNotFound"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    REGISTRY_UNAUTHORIZED = "RegistryUnauthorized"
    RATE_LIMITED = "RateLimited"
    PULL_FAILED = "PullFailed"
    PULL_STALLED = "PullStalled"
    DISK_FULL = "DiskFull"
    DIGEST_MISMATCH = "DigestMismatch"
    CONTRADICTORY_PIN = "ContradictoryPin"
    NOT_INSTALLED = "NotInstalled"
    NO_ROOM_TO_PRELOAD = "NoRoomToPreload"
    # of a task that waits or runs
    SERVER_NOT_READY = "ServerNotReady"
    PARALLEL_LIMIT = "ParallelLimit"
    OPERATOR_LIMIT = "OperatorLimit"
    OUTSIDE_WINDOW = "OutsideWindow"
    BACKING_OFF = "BackingOff"
    PULLING = "Pulling"
    VERIFYING = "Verifying"
    INSTALLED = "Installed"
    # of a warning that keeps nothing from working
    VULNERABLE_VERSION = "VulnerableVersion"


class Condition(Model):
    """One condition, as Kubernetes' ``metav1.Condition``."""

    type: Annotated[str, Field(min_length=1, max_length=316)] = Field(
        description="Ready, Reconciling or Stalled."
    )
    status: Status = Field(description="Whether it holds.")
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Why, in one word: docs/reference/reasons.md explains each."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(
        default="", description="Why, in a sentence, with what to do where it waits for you."
    )
    observed_generation: int | None = Field(
        default=None, ge=0, description="The generation of the spec it is about."
    )
    last_transition_time: str = Field(
        json_schema_extra={"format": "date-time"},
        max_length=64,
        description="When its status last changed.",
    )


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=8,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    ),
]
CONDITIONS: Any = Field(
    default=[],
    description="Ready: all is as the spec says. Reconciling: the operator is getting there. "
    "Stalled: it waits for you.",
)
