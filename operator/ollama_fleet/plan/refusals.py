"""Why machines refuse a server, in GPU terms."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from ollama_fleet.api.ollamanode import Gpu, OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of, gib
from ollama_fleet.plan.devices import Device, Devices, Place
from ollama_fleet.plan.memory import enough, server_memory
from ollama_fleet.plan.placement import tolerations
from ollama_fleet.plan.result import Object

_SHOWN = 6
_HIDDEN: Object = {"spec": {}}


def by_resource(
    spec: OllamaNodeSpec, kubernetes_nodes: Collection[Object], pods: Iterable[Object], said: str
) -> str:
    """Why none of these machines has the extended resource to give; ``said`` is the scheduler's
    word."""
    resource = spec.gpu.resource
    offering = [one for one in kubernetes_nodes if _allocatable(one, resource) > 0]
    if not offering:
        who, install = "no machine offers", "device plugin"
        if spec.per_node is not None and len(kubernetes_nodes) == 1:
            (one,) = kubernetes_nodes
            who, install = f"machine {one['metadata']['name']} offers no", "device plugin there"
        return (
            f"{who} {resource}. Install the GPU vendor's {install}, correct spec.gpu.vendor, or "
            "set it to none to run on the CPU."
        )
    holders: dict[str, list[str]] = {}
    for other in pods:
        machine = other["spec"].get("nodeName")
        if machine and _requests(other, resource):
            meta = other["metadata"]
            holders.setdefault(machine, []).append(f"{meta['namespace']}/{meta['name']}")
    alone = spec.model_copy(update={"gpu": _alone(spec.gpu)})
    refusals = []
    for machine in offering:
        name = machine["metadata"]["name"]
        size = server_memory(alone, machine).size
        refusals.append(_refusal(spec, machine, name, size, holders.get(name, [])))
    return _sentence(spec, refusals, said)


def by_claim(
    spec: OllamaNodeSpec, kubernetes_nodes: Iterable[Object], devices: Devices, said: str
) -> str:
    """Why no machine has a device that the ResourceClaim may have."""
    gpu = spec.gpu
    if f"device class {gpu.device_class} does not exist" in said:
        return (
            f"there is no DeviceClass {gpu.device_class}. Install the GPU vendor's DRA driver, "
            f"correct spec.gpu.deviceClassName, or set spec.gpu.allocation to DevicePlugin. "
            f"(scheduler: {said[:300]})"
        )
    machines = {one["metadata"]["name"]: one for one in kubernetes_nodes}
    published: dict[str, list[tuple[Place, Device]]] = defaultdict(list)
    for place, device in devices.by_place.items():
        if device.machine is None or device.driver != gpu.driver:
            continue
        # where RBAC hides the machines, those that publish are all that is known
        if device.machine in machines or not machines:
            published[device.machine].append((place, device))
    if not published:
        return (
            f"no machine publishes a GPU of {gpu.driver}. Install the GPU vendor's DRA driver, "
            "correct spec.gpu.vendor, or set spec.gpu.allocation to DevicePlugin. "
            f"(scheduler: {said[:300]})"
        )
    held = devices.holders()
    refusals = []
    for name in sorted(published):
        sizes = [device.memory for _, device in published[name] if device.memory is not None]
        holders = [held[place] for place, _ in published[name] if place in held]
        largest = max(sizes, default=None)
        refusals.append(_refusal(spec, machines.get(name, _HIDDEN), name, largest, holders))
    return _sentence(spec, refusals, said)


def _refusal(
    spec: OllamaNodeSpec, machine: Object, name: str, size: int | None, holders: list[str]
) -> str:
    if machine["spec"].get("unschedulable"):
        return f"{name} is cordoned"
    if size is not None and not enough(size, _wanted(spec)):
        return f"{name} is too small ({gib(size)})"
    if holders:
        return f"{name} is taken by {', '.join(holders[:2])}"
    if taint := _untolerated(spec, machine):
        return f"{name} has the taint {taint}, which spec.template.tolerations does not list"
    return f"{name} is not free or not allowed by the template"


def _sentence(spec: OllamaNodeSpec, refusals: list[str], said: str) -> str:
    wanted = _wanted(spec)
    least = f" with {gib(wanted)}" if wanted else ""
    shown = "; ".join(refusals[:_SHOWN]) + ("; …" if len(refusals) > _SHOWN else "")
    remedy = f"Lower {'spec.gpu.memory' if wanted else 'spec.replicas'} or add a machine."
    if spec.per_node is not None:
        remedy = "Mend that, or leave the machine out with spec.template.nodeSelector."
    return (
        f"0 of {len(refusals)} GPU machines have {_gpus(spec.gpu)}{least} free: {shown}. "
        f"{remedy} (scheduler: {said[:300]})"
    )


def _untolerated(spec: OllamaNodeSpec, machine: Object) -> str | None:
    """The first taint that keeps servers from a machine, as kubectl writes it."""
    allowed = tolerations(spec)
    for taint in machine["spec"].get("taints") or ():
        keeps = taint.get("effect") in ("NoSchedule", "NoExecute")
        if keeps and not any(_tolerates(one, taint) for one in allowed):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"{taint['key']}{value}:{taint['effect']}"
    return None


def _tolerates(toleration: Object, taint: Object) -> bool:
    exists = toleration.get("operator") == "Exists"
    return (
        toleration.get("effect") in (None, "", taint["effect"])
        and toleration.get("key") in (taint["key"], *((None, "") if exists else ()))
        and (exists or (toleration.get("value") or "") == (taint.get("value") or ""))
    )


def _wanted(spec: OllamaNodeSpec) -> int:
    return bytes_of(spec.gpu.memory) if spec.gpu.memory else 0


def _alone(gpu: Gpu) -> Gpu:
    return gpu.model_copy(update={"count": 1, "memory": None})


def _gpus(gpu: Gpu) -> str:
    return "a GPU" if gpu.count == 1 else f"{gpu.count} GPUs"


def _allocatable(kubernetes_node: Object, resource: str) -> int:
    text = str((kubernetes_node.get("status", {}).get("allocatable") or {}).get(resource, "0"))
    return int(text) if text.isdigit() else 0


def _requests(pod: Object, resource: str) -> bool:
    return any(
        resource in (container.get("resources", {}).get("limits") or {})
        for container in pod["spec"].get("containers", ())
    )
