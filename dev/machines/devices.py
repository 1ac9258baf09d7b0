"""What the GPU vendor's DRA driver would do: publish GPUs, and say what a claim was given."""

from __future__ import annotations

from collections.abc import Iterable

from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.machine import Machine
from dev.machines.quantity import in_bytes

DRIVER = "gpu.nvidia.com"
_GROUP = "/apis/resource.k8s.io/v1"
_SLICES = f"{_GROUP}/resourceslices"


async def make_class(api: ApiServer) -> None:
    """Make the DeviceClass that the driver's chart would install."""
    expression = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == 'gpu'"
    body: Object = {
        "metadata": {"name": DRIVER},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }
    await _create(api, f"{_GROUP}/deviceclasses", body)


async def publish(api: ApiServer, machine: Machine) -> None:
    """Tell of a machine's GPUs; NVIDIA's alone, and those handed out whole."""
    if machine.vendor != "nvidia" or not machine.whole_gpus:
        return
    body: Object = {
        "metadata": {"name": _name(machine)},
        "spec": {
            "driver": DRIVER,
            "pool": {"name": machine.name, "generation": 1, "resourceSliceCount": 1},
            "nodeName": machine.name,
            "devices": [_device(machine, number) for number in range(machine.whole_gpus)],
        },
    }
    await _create(api, _SLICES, body)


async def withdraw(api: ApiServer, machine: Machine) -> None:
    """The machine is gone, and its GPUs with it."""
    await api.delete(f"{_SLICES}/{_name(machine)}")


async def granted(api: ApiServer, namespace: str, claims: Iterable[str]) -> int:
    """Bytes of GPU memory that ResourceClaims were given."""
    memory = 0
    for claim in claims:
        found = await api.get(f"{_GROUP}/namespaces/{namespace}/resourceclaims/{claim}")
        for result in found["status"]["allocation"]["devices"]["results"]:
            published = await api.get(f"{_SLICES}/{result['pool']}-{DRIVER}")
            memory += sum(
                in_bytes(device["capacity"]["memory"]["value"])
                for device in published["spec"]["devices"]
                if device["name"] == result["device"]
            )
    return memory


def _name(machine: Machine) -> str:
    return f"{machine.name}-{DRIVER}"


def _device(machine: Machine, number: int) -> Object:
    product = machine.node_labels()["nvidia.com/gpu.product"]
    return {
        "name": f"gpu-{number}",
        "attributes": {
            "type": {"string": "gpu"},
            "productName": {"string": product},
            "uuid": {"string": f"GPU-{machine.name}-{number}"},
        },
        "capacity": {"memory": {"value": str(machine.gpu_memory)}},
    }


async def _create(api: ApiServer, path: str, body: Object) -> None:
    try:
        await api.create(path, body)
    except ApiError as error:
        if error.status != 409:
            raise
