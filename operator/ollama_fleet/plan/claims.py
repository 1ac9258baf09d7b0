"""GPUs by ResourceClaim: the template each server's claim is made from."""

import hashlib
import json
from collections.abc import Iterable

from ollama_fleet.api.ollamanode import Gpu, OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.memory import TOLERANCE
from ollama_fleet.plan.result import Object, child

CLAIM = "gpu"
"""What the pod calls its claim, and the claim its only request."""


def claim_template(node: Object, spec: OllamaNodeSpec, labels: dict[str, str]) -> Object | None:
    """The ResourceClaimTemplate of an OllamaNode; None where the device plugin hands GPUs out.

    Its spec is immutable, so its name says what is in it: another request is another template.
    """
    if spec.gpu.allocation != "ResourceClaim":
        return None
    content = {
        # the claims carry our labels, so that they are found again
        "metadata": {"labels": labels},
        "spec": {"devices": {"requests": [{"name": CLAIM, "exactly": _request(spec.gpu)}]}},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
    made = child(
        node,
        "resource.k8s.io/v1",
        "ResourceClaimTemplate",
        f"{node['metadata']['name']}-gpu-{digest}",
        labels,
    )
    made["spec"] = content
    return made


def ask(pod_spec: Object, template: Object | None) -> None:
    """Let a pod's container have the GPUs of a claim of its own."""
    if template is not None:
        pod_spec["resourceClaims"] = [
            {"name": CLAIM, "resourceClaimTemplateName": template["metadata"]["name"]}
        ]
        pod_spec["containers"][0]["resources"]["claims"] = [{"name": CLAIM}]


def outdated(
    current: Object | None,
    templates: Iterable[Object],
    workload: Object | None,
    pods: Iterable[Object],
) -> tuple[Object, ...]:
    """Templates that no pod is, or will be, made from."""
    names = {current["metadata"]["name"]} if current else set()
    if workload is None or not _taken_over(workload, names):
        return ()
    names |= {name for pod in pods for name in _named(pod["spec"])}
    return tuple(one for one in templates if one["metadata"]["name"] not in names)


def _taken_over(workload: Object, names: set[str]) -> bool:
    """Whether the workload's controller makes new pods from these and no others."""
    meta, status = workload.get("metadata") or {}, workload.get("status") or {}
    template = (workload.get("spec") or {}).get("template") or {}
    return _named(template.get("spec") or {}) == names and status.get(
        "observedGeneration"
    ) == meta.get("generation")


def _named(pod_spec: Object) -> set[str]:
    claims = pod_spec.get("resourceClaims") or ()
    return {name for one in claims if (name := one.get("resourceClaimTemplateName"))}


def _request(gpu: Gpu) -> Object:
    request: Object = {
        "deviceClassName": gpu.device_class,
        "allocationMode": "ExactCount",
        "count": gpu.count,
    }
    if gpu.memory is not None:
        least = int(bytes_of(gpu.memory) * TOLERANCE / 2**20)
        capacity = f"device.capacity['{gpu.driver}']"
        # a device that tells no memory must be passed over: an error would end the whole search
        expression = (
            f"has({capacity}.memory) && {capacity}.memory.compareTo(quantity('{least}Mi')) >= 0"
        )
        request["selectors"] = [{"cel": {"expression": expression}}]
    return request
