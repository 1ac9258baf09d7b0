"""A real Kubernetes on one machine: `python -m dev.cluster up`, or `Cluster.start(directory)`."""

from dev.cluster.cluster import Cluster
from dev.cluster.errors import ClusterError
from dev.machines.machine import DEFAULT as DEFAULT_MACHINES
from dev.machines.machine import Machine

__all__ = ["DEFAULT_MACHINES", "Cluster", "ClusterError", "Machine"]
