"""The objects an OllamaNode's servers run as: StatefulSet or DaemonSet, and their Service."""

from ollama_fleet.api.ollamanode import PORT, OllamaNodeSpec
from ollama_fleet.api.servers import OLLAMANODE_LABEL, labels, selector
from ollama_fleet.plan.result import Object, child
from ollama_fleet.plan.rollout import REVISION, revision
from ollama_fleet.plan.serverpod import pod_template

DEFAULT_SIZE = "100Gi"


def objects(
    node: Object, spec: OllamaNodeSpec, workload: Object | None, gpus: Object | None
) -> tuple[Object, ...]:
    """What to apply for an OllamaNode; ``gpus`` is the template of its claims, if it has them."""
    if spec.external is not None:
        return ()
    first = () if gpus is None else (gpus,)
    if spec.per_node is not None:
        return (*first, _daemon_set(node, spec, gpus))
    return (
        *first,
        _service(node),
        _stateful_set(node, spec, workload, gpus),
        _disruption_budget(node, spec),
    )


def names(node: Object) -> tuple[str, dict[str, str]]:
    """The OllamaNode's name, and the labels on everything made for it."""
    name = node["metadata"]["name"]
    return name, labels(OLLAMANODE_LABEL, name, "ollama")


def _service(node: Object) -> Object:
    name, all_labels = names(node)
    made = child(node, "v1", "Service", f"{name}-servers", all_labels)
    made["spec"] = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(OLLAMANODE_LABEL, name),
        "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
    }
    return made


def _disruption_budget(node: Object, spec: OllamaNodeSpec) -> Object:
    """Whoever empties machines takes no more servers at once than an update does.

    A DaemonSet's pods have none: Kubernetes cannot count them, and nobody evicts them.
    """
    name, all_labels = names(node)
    made = child(node, "policy/v1", "PodDisruptionBudget", f"{name}-servers", all_labels)
    made["spec"] = {
        "maxUnavailable": spec.update.max_unavailable,
        "selector": {"matchLabels": selector(OLLAMANODE_LABEL, name)},
        # a server that does not run anyway must not keep a machine from being emptied
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return made


def _template(spec: OllamaNodeSpec, all_labels: dict[str, str], gpus: Object | None) -> Object:
    template = pod_template(spec, all_labels, gpus)
    annotations = template["metadata"].get("annotations", {})
    metadata = {
        **template["metadata"],
        "annotations": {**annotations, REVISION: revision(template)},
    }
    return {**template, "metadata": metadata}


def _stateful_set(
    node: Object, spec: OllamaNodeSpec, workload: Object | None, gpus: Object | None
) -> Object:
    name, all_labels = names(node)
    template = _template(spec, all_labels, gpus)
    made = child(node, "apps/v1", "StatefulSet", name, all_labels)
    made["spec"] = {
        "replicas": spec.replicas or 0,
        "serviceName": f"{name}-servers",
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "selector": {"matchLabels": selector(OLLAMANODE_LABEL, name)},
        "template": template,
    }
    if not any(volume["name"] == "models" for volume in template["spec"]["volumes"]):
        # the API server allows no change of a claim template: what is there stays
        there = ((workload or {}).get("spec") or {}).get("volumeClaimTemplates")
        made["spec"]["volumeClaimTemplates"] = there or [_claim(spec, all_labels)]
    return made


def _claim(spec: OllamaNodeSpec, all_labels: dict[str, str]) -> Object:
    claim: Object = {
        "metadata": {"name": "models", "labels": all_labels},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": spec.storage.size or DEFAULT_SIZE}},
        },
    }
    if spec.storage.storage_class_name:
        claim["spec"]["storageClassName"] = spec.storage.storage_class_name
    return claim


def _daemon_set(node: Object, spec: OllamaNodeSpec, gpus: Object | None) -> Object:
    name, all_labels = names(node)
    made = child(node, "apps/v1", "DaemonSet", name, all_labels)
    made["spec"] = {
        "selector": {"matchLabels": selector(OLLAMANODE_LABEL, name)},
        "updateStrategy": {"type": "OnDelete"},
        "template": _template(spec, all_labels, gpus),
    }
    return made
