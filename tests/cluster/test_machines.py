"""What pods of the simulated cluster share: machines, GPUs, volumes, rights, entrances."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev.cluster import Cluster, ClusterError, Machine
from dev.cluster.processes import alive
from tests.cluster.conftest import Kubectl
from tests.cluster.pods import POD_IP, PORT, SERVER, WAIT_FOREVER, Namespace, Object, pod
from tests.cluster.waiting import eventually


@pytest.fixture
def here(cluster: Cluster, kubectl: Kubectl, namespace: str) -> Namespace:
    return Namespace(cluster, kubectl, namespace)


def test_a_pod_may_do_what_its_role_allows_and_no_more(here: Namespace) -> None:
    script = (
        "import subprocess\n"
        "for kind in ('pods', 'secrets'):\n"
        f"    subprocess.run([{str(here.cluster.kubectl)!r}, 'get', kind, '-o', 'name'],"
        " stderr=subprocess.STDOUT)\n"
    )
    here.kubectl("create", "serviceaccount", "reader", "-n", here.name)
    for command in (
        "role reader --verb=get,list --resource=pods",
        f"rolebinding reader --role=reader --serviceaccount={here.name}:reader",
    ):
        here.kubectl("create", *command.split(), "-n", here.name)
    here.apply(pod("asks", script, serviceAccountName="reader", restartPolicy="Never"))
    here.wait("pod/asks", "jsonpath={.status.phase}=Succeeded")
    said = here.logs("asks")
    assert "pod/asks" in said
    assert f'User "system:serviceaccount:{here.name}:reader" cannot list resource "secrets"' in said


def test_a_kubeconfig_can_act_as_a_service_account(here: Namespace, tmp_path: Path) -> None:
    path = here.cluster.token_kubeconfig(here.name, "default", tmp_path / "kubeconfig")
    who = here.kubectl("auth", "whoami", f"--kubeconfig={path}", "-o", "jsonpath={..username}")
    assert who == f"system:serviceaccount:{here.name}:default"
    with pytest.raises(ClusterError, match="not found"):
        here.cluster.token_kubeconfig(here.name, "nobody", tmp_path / "kubeconfig")


def test_a_pod_without_a_token_is_nobody(here: Namespace) -> None:
    script = "import os; print('KUBECONFIG' in os.environ)"
    here.apply(pod("mute", script, automountServiceAccountToken=False, restartPolicy="Never"))
    here.wait("pod/mute", "jsonpath={.status.phase}=Succeeded")
    assert here.logs("mute") == "False\n"


def test_a_claims_data_outlives_the_pod_and_ends_with_the_claim(here: Namespace) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    write = "open('/data/kept', 'w').write('kept')"
    here.apply(claim, pod("first", write, mount, volumes=volumes, restartPolicy="Never"))
    here.wait("pod/first", "jsonpath={.status.phase}=Succeeded")
    here.delete("first")
    read = "print(open('/data/kept').read())"
    here.apply(pod("second", read, mount, volumes=volumes, restartPolicy="Never"))
    here.wait("pod/second", "jsonpath={.status.phase}=Succeeded")
    assert here.logs("second") == "kept\n"

    here.kubectl(
        *("patch", "pvc", "data", "-n", here.name, "-p"),
        '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}',
    )
    here.wait("pvc/data", "jsonpath={.status.capacity.storage}=2Gi")

    volume = here.get("pvc", "data")["spec"]["volumeName"]
    folder = here.cluster.directory / "volumes" / volume
    assert (folder / "kept").exists()
    here.delete("second")
    here.kubectl("delete", "pvc", "data", "-n", here.name)
    eventually("the folder is gone", lambda: not folder.exists())


def test_a_daemon_set_is_on_every_machine(here: Namespace) -> None:
    template = pod("daemon", WAIT_FOREVER)
    here.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "daemon"},
            "spec": {
                "selector": {"matchLabels": {"app": "daemon"}},
                "template": {"metadata": template["metadata"], "spec": template["spec"]},
            },
        }
    )
    machines = len(here.cluster.machines())
    here.wait("daemonset/daemon", f"jsonpath={{.status.numberReady}}={machines}")
    addresses = here.kubectl(
        *("get", "pods", "-n", here.name, "-o", "jsonpath={.items[*].status.podIP}")
    ).split()
    assert len(set(addresses)) == machines


@contextmanager
def machine(cluster: Cluster, added: Machine) -> Iterator[None]:
    cluster.add_machine(added)
    try:
        yield
    finally:
        if added.name in cluster.machines():
            cluster.remove_machine(added.name)


def test_a_machine_joins_and_leaves(here: Namespace) -> None:
    wanted = {"nvidia.com/gpu.memory": "49152"}
    here.apply(pod("big", WAIT_FOREVER, nodeSelector=wanted))
    here.wait("pod/big", "condition=PodScheduled=false")
    with machine(here.cluster, Machine("gpu-48g", gpu_memory=48 << 30)):
        here.wait("pod/big", "condition=Ready")
        assert here.get("pod", "big")["spec"]["nodeName"] == "gpu-48g"
        with pytest.raises(ClusterError, match="already"):
            here.cluster.add_machine(Machine("gpu-48g", gpu_memory=48 << 30))
        pid = here.pid("big")
        here.cluster.remove_machine("gpu-48g")
        eventually("the process is gone", lambda: not alive(pid))
        here.wait("pod/big", "delete")
    with pytest.raises(ClusterError, match="no machine gpu-48g; there are: gpu-12g"):
        here.cluster.remove_machine("gpu-48g")


def test_a_machine_loses_its_power_and_its_voice(here: Namespace) -> None:
    with machine(here.cluster, Machine("frail", vendor="none")):
        where = {"nodeSelector": {"kubernetes.io/hostname": "frail"}}
        here.apply(pod("one", WAIT_FOREVER, **where), pod("two", WAIT_FOREVER, **where))
        for name in ("one", "two"):
            here.wait(f"pod/{name}", "condition=Ready")
        before = here.pid("one")
        here.cluster.turn("frail", "off")
        eventually("the process is gone", lambda: not alive(before))
        assert here.get("pod", "one")["status"]["phase"] == "Running"
        here.cluster.turn("frail", "on")
        eventually("they run again", lambda: all(here.runs(name) for name in ("one", "two")))

        one, two = here.pid("one"), here.pid("two")
        here.cluster.turn("frail", "silent")
        here.delete("two", "--grace-period=0", "--force")
        here.delete("one", "--wait=false")
        assert alive(one)
        assert alive(two)
        here.cluster.turn("frail", "on")
        eventually("both end", lambda: not alive(one) and not alive(two))
        here.wait("pod/one", "delete")


def test_a_gpu_is_granted_only_where_there_is_one(here: Namespace) -> None:
    def greedy(name: str, host: str, resource: str, count: int) -> Object:
        limits = {"resources": {"limits": {resource: count}}}
        return pod(name, WAIT_FOREVER, limits, nodeSelector={"kubernetes.io/hostname": host})

    cpu, amd = Machine("cpu", vendor="none"), Machine("amd", vendor="amd", gpu_memory=192 << 30)
    with machine(here.cluster, cpu), machine(here.cluster, amd):
        here.apply(
            greedy("on-cpu", "cpu", "nvidia.com/gpu", 1),
            greedy("wrong-vendor", "amd", "nvidia.com/gpu", 1),
            greedy("two", "gpu-24g", "nvidia.com/gpu", 2),
            greedy("one", "gpu-24g", "nvidia.com/gpu", 1),
            greedy("amd", "amd", "amd.com/gpu", 1),
        )
        here.wait("pod/one", "condition=Ready")
        here.wait("pod/amd", "condition=Ready")
        for name in ("on-cpu", "wrong-vendor", "two"):
            here.wait(f"pod/{name}", "condition=PodScheduled=false")
        labels = json.loads(here.kubectl("get", "node", "amd", "-o", "json"))["metadata"]["labels"]
        assert labels["amd.com/gpu.vram"] == "192G"


def test_a_load_balancer_answers_and_spreads(here: Namespace) -> None:
    container = {
        "env": [POD_IP, {"name": "PORT", "value": str(PORT)}],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    documents = [pod(name, SERVER, container) for name in ("left", "right")]
    for each in documents:
        each["metadata"]["labels"] = {"app": "web"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "ports": [{"port": 11511, "targetPort": "http"}],
        },
    }
    here.apply(*documents, service)
    for name in ("left", "right"):
        here.wait(f"pod/{name}", "condition=Ready")
    here.wait("service/web", "jsonpath={.status.loadBalancer.ingress[0].ip}=127.0.0.1")
    found = here.get("service", "web")
    address = found["metadata"]["annotations"]["ollamafleet.dev/local-address"]
    port = found["status"]["loadBalancer"]["ingress"][0]["ports"][0]["port"]
    assert address == f"127.0.0.1:{port}"

    def ask() -> str:
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
            return str(answer.read().decode())

    assert {ask() for _ in range(4)} == {"left", "right"}
    here.delete("left")
    assert {ask() for _ in range(4)} == {"right"}
