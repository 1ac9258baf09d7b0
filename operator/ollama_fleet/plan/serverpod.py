"""The pod an Ollama server runs in."""

from typing import Any

from ollama_fleet.api.ollamanode import PORT, OllamaNodeSpec
from ollama_fleet.api.quantity import seconds_of
from ollama_fleet.plan.claims import ask
from ollama_fleet.plan.folders import settle
from ollama_fleet.plan.placement import affinity, tolerations
from ollama_fleet.plan.result import Object

STORE = "/var/lib/ollama"
USER = 65532
ENDPOINT_SECONDS = 5
"""How long a stopping server still answers at least, so that routers have seen it leave."""
STOP_SECONDS = 30
"""How long Ollama may take to end, once it is told to."""


def image(spec: OllamaNodeSpec) -> str:
    """The image reference; AMD has its own tag."""
    chosen = spec.image
    if spec.gpu.vendor == "amd" and not chosen.digest and not chosen.tag.endswith("-rocm"):
        chosen = chosen.model_copy(update={"tag": f"{chosen.tag}-rocm"})
    return chosen.reference


def pod_template(
    spec: OllamaNodeSpec, labels: dict[str, str], gpus: Object | None = None
) -> Object:
    """The template for the StatefulSet or DaemonSet, without the volume of a claim template.

    ``gpus`` is the template of the claims that its GPUs come from, if they do.
    """
    template = spec.template
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _drain_seconds(spec) + STOP_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
            **(template.security_context or {}),
        },
        "containers": [_container(spec)],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *_volumes(spec)],
        "tolerations": tolerations(spec),
    }
    placed = affinity(spec)
    optional = {
        "affinity": placed or None,
        "nodeSelector": template.node_selector,
        "topologySpreadConstraints": template.topology_spread_constraints,
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
        # said always: Kubernetes keeps a copy of it, which would outlive the field
        "serviceAccountName": template.service_account_name or "default",
        "imagePullSecrets": [{"name": name} for name in spec.image.pull_secrets] or None,
    }
    pod |= {name: value for name, value in optional.items() if value is not None}
    settle(pod, spec, USER)
    ask(pod, gpus)
    metadata: Object = {"labels": {**(template.labels or {}), **labels}}
    if template.annotations:
        metadata["annotations"] = dict(template.annotations)
    return {"metadata": metadata, "spec": pod}


def environment(spec: OllamaNodeSpec) -> list[dict[str, Any]]:
    """Ollama's settings. Cloud models are off, so that no prompt leaves the fleet.

    Ollama's image asks for all NVIDIA GPUs. Where NVIDIA's runtime is the default one, a server
    that was given none would have those of others.
    """
    server = spec.server
    settings = {
        "HOME": STORE,
        "OLLAMA_HOST": f"0.0.0.0:{PORT}",
        "OLLAMA_MODELS": f"{STORE}/models",
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NUM_PARALLEL": str(server.parallel),
        "OLLAMA_CONTEXT_LENGTH": str(server.context_length),
        "OLLAMA_MAX_LOADED_MODELS": str(server.max_loaded_models),
        "OLLAMA_MAX_QUEUE": str(server.max_queue),
        "OLLAMA_KEEP_ALIVE": server.keep_alive,
        "OLLAMA_KV_CACHE_TYPE": server.kv_cache_type,
        "OLLAMA_FLASH_ATTENTION": "1" if server.flash_attention else "0",
        "OLLAMA_LOAD_TIMEOUT": server.load_timeout,
    }
    if spec.gpu.vendor != "nvidia":
        settings["NVIDIA_VISIBLE_DEVICES"] = "void"
    return [
        *({"name": name, "value": value} for name, value in settings.items()),
        *(one.wire() for one in server.env),
    ]


def _container(spec: OllamaNodeSpec) -> Object:
    requests = dict(spec.resources.requests or {})
    limits = dict(spec.resources.limits or {})
    if spec.gpu.vendor != "none" and spec.gpu.allocation == "DevicePlugin":
        limits[spec.gpu.resource] = str(spec.gpu.count)
    resources: Object = {}
    if requests:
        resources["requests"] = requests
    if limits:
        resources["limits"] = limits
    alive = {"httpGet": {"path": "/", "port": "http"}}
    return {
        "name": "ollama",
        "image": image(spec),
        "imagePullPolicy": spec.image.pull_policy,
        "args": ["serve"],
        "env": environment(spec),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": {**alive, "periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": {**alive, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3},
        "livenessProbe": {**alive, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        # it still answers meanwhile; where all is done sooner, the operator ends the sleep
        "lifecycle": {"preStop": {"sleep": {"seconds": _drain_seconds(spec)}}},
        "volumeMounts": [
            {"name": "models", "mountPath": STORE},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (a mount of the container's own)
        ],
    }


def _drain_seconds(spec: OllamaNodeSpec) -> int:
    return max(ENDPOINT_SECONDS, int(seconds_of(spec.update.drain_timeout)))


def _volumes(spec: OllamaNodeSpec) -> list[Object]:
    storage = spec.storage
    if storage.host_path:
        source: Object = {"hostPath": {"path": storage.host_path, "type": "DirectoryOrCreate"}}
    elif storage.existing_claim:
        source = {"persistentVolumeClaim": {"claimName": storage.existing_claim}}
    elif storage.ephemeral or spec.per_node is not None:
        source = {"emptyDir": {}}
    else:
        return []
    return [{"name": "models", **source}]
