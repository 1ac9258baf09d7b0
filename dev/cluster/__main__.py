"""The local cluster's command line: python -m dev.cluster up|down|status|…"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dev import chart, fleet
from dev.cluster.binary import KUBERNETES
from dev.cluster.cluster import REPOSITORY, Cluster
from dev.cluster.errors import ClusterError
from dev.cluster.processes import alive
from dev.machines.machine import DEFAULT, VENDORS, Machine
from dev.machines.quantity import in_bytes

_GIB = 1024**3
_COMMAND = "python -m dev.cluster"


def directory() -> Path:
    """Where the cluster lies: OLLAMA_FLEET_CLUSTER_DIR, or .cluster in the repository."""
    return Path(os.environ.get("OLLAMA_FLEET_CLUSTER_DIR") or REPOSITORY / ".cluster").absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors are one line on standard error and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (ClusterError, ValueError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_COMMAND, description="A real Kubernetes on this machine, with simulated GPUs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(run=run)
        return sub

    up = command("up", _up, "start the cluster; it runs until `down`")
    up.add_argument("--fleet", action="store_true", help="with the operator and the sample fleet")
    command("down", _down, "stop every process and remove the cluster's directory")
    command("status", _status, "say what runs")
    command("machines", _machines, "list the machines")
    add = command("add-machine", _add, "let a machine join")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--gpu-memory", metavar="48Gi", default="0", help="memory of each GPU")
    add.add_argument("--gpus", metavar="N", type=int, default=1, help="how many GPUs (1)")
    add.add_argument("--vendor", choices=VENDORS, default="nvidia", help="whose GPUs (nvidia)")
    add.add_argument(
        "--label", metavar="K=V", action="append", default=[], help="a label of its node"
    )
    add.add_argument(
        "--resource", metavar="K=N", action="append", default=[], help="what else it has to give"
    )
    remove = command("remove-machine", _remove, "take a machine away, as if its power was cut")
    remove.add_argument("name", metavar="NAME")
    return parser


def _up(options: argparse.Namespace) -> int:
    running = Cluster.open(directory())
    if running:
        print(f"The cluster runs already, in {running.directory}.")
        _print_usage(running, options.fleet)
        return 0
    started = time.monotonic()
    print("ollama-fleet local cluster")
    steps = {
        "control plane": f"Kubernetes {KUBERNETES}: etcd, API server, controllers, scheduler",
        "machines": f"{', '.join(machine.name for machine in DEFAULT)} (simulated GPUs)",
    }

    def say(line: str) -> None:
        print(f"  {line}", flush=True)

    def on_step(step: str, seconds: float) -> None:
        print(f"  {step:<15}  {steps[step]:<62}{seconds:5.1f} s", flush=True)

    models = fleet.prepare(directory()) if options.fleet else ""
    cluster = Cluster.start(directory(), detached=True, models=models, say=say, on_step=on_step)
    if options.fleet:
        done = fleet.install(cluster, chart.on_path())
        steps["operator"] = f"{done}, and the sample fleet on {fleet.servers()}"
        fleet.apply_sample(cluster)
        on_step("operator", time.monotonic() - started)
    print(f"Up in {time.monotonic() - started:.1f} s, in {cluster.directory}.")
    _print_usage(cluster, options.fleet)
    return 0


def _print_usage(cluster: Cluster, with_fleet: bool) -> None:
    kubectl = "kubectl" if shutil.which("kubectl") else str(cluster.kubectl)
    python = os.path.relpath(sys.executable)
    print(f"  export KUBECONFIG={cluster.kubeconfig}")
    own = f"      (version {KUBERNETES}: {cluster.kubectl})" if kubectl == "kubectl" else ""
    if with_fleet:
        print(f"  {kubectl} get ollama -A{own}")
        print(f"  {kubectl} apply -f manifests/samples/cpu-only.yaml")
    else:
        print(f"  {kubectl} get nodes{own}")
    print(f"  {python} -m dev.cluster add-machine gpu-48g --gpu-memory 48Gi")
    print("  make cluster-down              stops it and removes the directory")


def _down(_options: argparse.Namespace) -> int:
    cluster = Cluster.open(directory())
    if cluster is None:
        if directory().exists():
            shutil.rmtree(directory())
            print(f"No cluster runs; removed what was left in {directory()}.")
        else:
            print("No cluster runs.")
        return 0
    started = time.monotonic()
    cluster.stop()
    print(f"Stopped in {time.monotonic() - started:.1f} s; {cluster.directory} is removed.")
    return 0


def _status(_options: argparse.Namespace) -> int:
    cluster = _running()
    state = cluster.state()
    print(f"Kubernetes {state['kubernetes']} at {state['url']}, files in {cluster.directory}")
    down = 0
    for name, pid in state["programs"].items():
        up = alive(pid)
        down += not up
        memory = f"{_resident(pid) / 1024**2:6.0f} MiB" if up else f"see logs/{name}.log"
        print(f"  {name:<25} {'running' if up else 'ended':<8} {memory}")
    return 1 if down else 0


def _machines(_options: argparse.Namespace) -> int:
    print(f"{'NAME':<16} {'GPUS':<6} {'MEMORY':<8} VENDOR")
    for machine in _running().machines().values():
        gpus, memory = "-", "-"
        if machine.resource:
            gpus, memory = str(machine.gpus), f"{machine.gpu_memory / _GIB:g}Gi"
        print(f"{machine.name:<16} {gpus:<6} {memory:<8} {machine.vendor}")
    return 0


def _add(options: argparse.Namespace) -> int:
    machine = Machine(
        options.name,
        gpus=options.gpus,
        gpu_memory=in_bytes(options.gpu_memory),
        vendor=options.vendor,
        labels=dict(_pair("--label", text) for text in options.label),
        resources=dict(_pair("--resource", text) for text in options.resource),
    )
    started = time.monotonic()
    _running().add_machine(machine)
    print(f"{machine.name} takes pods ({time.monotonic() - started:.1f} s).")
    return 0


def _remove(options: argparse.Namespace) -> int:
    _running().remove_machine(options.name)
    print(f"{options.name} is gone, and its pods with it.")
    return 0


def _pair(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{option} {text}: write it as key=value")
    if option == "--resource" and not value.isdigit():
        raise ValueError(f"{option} {text}: write how many, like nvidia.com/mig-1g.10gb=7")
    return key, value


def _running() -> Cluster:
    cluster = Cluster.open(directory())
    if cluster is None:
        raise ClusterError(f"no cluster runs; start one with: {_COMMAND} up")
    return cluster


def _resident(pid: int) -> int:
    """The memory of one process in bytes."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    raise SystemExit(main())
