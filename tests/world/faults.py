"""All of them."""

from __future__ import annotations

from tests.world import clocks, controlplane, machines, registries, rotation, storage

FAULTS = (
    *storage.FAULTS,
    *registries.FAULTS,
    *clocks.FAULTS,
    *machines.FAULTS,
    *rotation.FAULTS,
    *controlplane.FAULTS,
)
