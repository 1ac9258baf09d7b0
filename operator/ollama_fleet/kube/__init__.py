"""The Kubernetes port: apply, status, list, watch, delete, events, on plain dictionaries."""

from ollama_fleet.kube.client import FIELD_MANAGER, Kube
from ollama_fleet.kube.errors import (
    ConfigError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from ollama_fleet.kube.kinds import Kind, Object, kind_of
from ollama_fleet.kube.listing import ObjectList
from ollama_fleet.kube.watch import WatchEvent

__all__ = [
    "FIELD_MANAGER",
    "ConfigError",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "Kind",
    "Kube",
    "KubeError",
    "NotFound",
    "Object",
    "ObjectList",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "WatchEvent",
    "kind_of",
]
