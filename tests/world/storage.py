"""Volumes, images and disks that are not to be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ollama_fleet.kube.kinds import OLLAMA_NODE, STORAGE_CLASS, Object
from tests.cluster.fleet import Emulator, ollama_node
from tests.cluster.waiting import eventually
from tests.world.ground import World
from tests.world.measure import Fault


def _class(name: str, provisioner: str) -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
    }


@contextmanager
def _wanting(world: World, storage_class: str) -> Iterator[None]:
    """A further server whose volume is to be of that class."""
    storage = {"size": "1Gi", "storageClassName": storage_class}
    world.fleet.apply(ollama_node("more", storage=storage))
    try:
        yield
    finally:
        world.fleet.delete(OLLAMA_NODE, "more")
        world.fleet.gone(OLLAMA_NODE, "more")
        chosen = "ollamafleet.dev/ollamanode=more"
        eventually("its pods are gone", lambda: not world.fleet.pods("more"), within=120)
        world.kubectl("delete", "pvc", "-l", chosen, "--wait=false")


@contextmanager
def no_class(world: World) -> Iterator[None]:
    """No such class; it is made later, and then the server comes up."""
    with _wanting(world, "late"):
        yield
        world.api.call("POST", STORAGE_CLASS.path(), _class("late", "ollamafleet.dev/folders"))
        world.fleet.ready(OLLAMA_NODE, "more", within=120)
    world.api.call("DELETE", STORAGE_CLASS.path(name="late"))


@contextmanager
def no_provisioner(world: World) -> Iterator[None]:
    """A class that nobody makes volumes of."""
    world.api.call("POST", STORAGE_CLASS.path(), _class("nobody", "example.com/nobody"))
    with _wanting(world, "nobody"):
        yield
    world.api.call("DELETE", STORAGE_CLASS.path(name="nobody"))


@contextmanager
def no_image(world: World) -> Iterator[None]:
    """An update names an image that there is not; it is taken back."""
    image = {"repository": "example.com/none", "tag": "0.0.0"}
    world.fleet.patch(OLLAMA_NODE, "a", {"spec": {"image": image}})
    try:
        yield
    finally:
        world.fleet.patch(OLLAMA_NODE, "a", {"spec": {"image": None}})


@contextmanager
def full(world: World) -> Iterator[None]:
    """A server's disk has no room any more in the middle of a pull; room is made."""
    server = Emulator(world.servers()["a-0"])
    server.fault("disk_full", path="/api/pull", fraction=0.4, count=1)
    try:
        world.begin_pull()
        yield
    finally:
        server.mend()


FAULTS = (
    Fault("claim of no such class", no_class, says="VolumeUnbound", pulled=13e6),
    Fault("claim without provisioner", no_provisioner, says="VolumeUnbound"),
    Fault("image missing", no_image, says="ImagePullFailed"),
    Fault("disk full mid-pull", full, says="DiskFull|no space left", pulling=False),
)
