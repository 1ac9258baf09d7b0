"""A pod on a simulated machine, from its first to its last moment, as any user sees it."""

from __future__ import annotations

import json
import urllib.request

import pytest

from dev.cluster import Cluster
from dev.cluster.processes import alive
from tests.cluster.conftest import Kubectl
from tests.cluster.pods import POD_IP, PORT, SERVER, WAIT_FOREVER, Namespace, Object, pod
from tests.cluster.waiting import eventually


@pytest.fixture
def here(cluster: Cluster, kubectl: Kubectl, namespace: str) -> Namespace:
    return Namespace(cluster, kubectl, namespace)


def test_a_pod_is_ready_when_its_probe_says_so(here: Namespace) -> None:
    container = {
        "env": [POD_IP, {"name": "PORT", "value": str(PORT)}],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1},
        "volumeMounts": [{"name": "gate", "mountPath": "/gate"}],
    }
    volumes = [{"name": "gate", "emptyDir": {}}]
    here.apply(pod("web", SERVER, container, volumes=volumes))

    events = ("get", "events", "-n", here.name, "-o", "jsonpath={.items[*].message}")
    eventually("the probe has failed", lambda: "statuscode: 503" in here.kubectl(*events))
    assert here.get("pod", "web")["status"]["phase"] == "Running"
    assert here.container("web")["ready"] is False

    (here.folder("web") / "volumes" / "gate" / "open").touch()
    here.wait("pod/web", "condition=Ready")
    address = here.get("pod", "web")["status"]["podIP"]
    assert address.startswith("127.")
    with urllib.request.urlopen(f"http://{address}:{PORT}/", timeout=5) as answer:
        assert answer.read() == b"web"

    (here.folder("web") / "volumes" / "gate" / "open").unlink()
    here.wait("pod/web", "condition=Ready=false")


def test_a_failed_liveness_probe_restarts_the_container(here: Namespace) -> None:
    probe = {"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 1}
    here.apply(pod("deaf", WAIT_FOREVER, {"livenessProbe": probe}))
    eventually("it was restarted", lambda: here.container("deaf").get("restartCount"))
    assert here.container("deaf")["lastState"]["terminated"]["exitCode"] == 143


def test_environment_secrets_and_volumes_reach_the_process(here: Namespace) -> None:
    script = (
        "import json, os, pathlib, sys\n"
        "files = {p: pathlib.Path(p).read_text() for p in"
        " ('/etc/config/greeting', '/etc/secret/key', '/etc/about/labels')}\n"
        "print(json.dumps({'env': dict(os.environ), 'files': files, 'args': sys.argv}))"
    )
    container = {
        "args": ["-c", script, "--name=$(GREETING)/$(UNKNOWN)"],
        "env": [
            {"name": "PLAIN", "value": "one"},
            {"name": "GREETING", "value": "$(PLAIN)-two"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "PLACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "key"}}},
            {"name": "CONFIG", "value": "/etc/config/greeting"},
            {
                "name": "ABSENT",
                "valueFrom": {"secretKeyRef": {"name": "no", "key": "no", "optional": True}},
            },
        ],
        "envFrom": [{"prefix": "ALL_", "configMapRef": {"name": "words"}}],
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/config"},
            {"name": "secret", "mountPath": "/etc/secret"},
            {"name": "about", "mountPath": "/etc/about"},
        ],
    }
    about = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    volumes = [
        {"name": "config", "configMap": {"name": "words"}},
        {"name": "secret", "secret": {"secretName": "keys"}},
        {"name": "about", "downwardAPI": {"items": [about]}},
    ]
    meta = {"apiVersion": "v1", "metadata": {"name": "words"}}
    here.apply(
        {**meta, "kind": "ConfigMap", "data": {"greeting": "hello"}},
        {**meta, "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"key": "s3cret"}},
        pod("env", script, container, volumes=volumes, restartPolicy="Never"),
    )
    here.wait("pod/env", "jsonpath={.status.phase}=Succeeded")
    said = json.loads(here.logs("env"))
    environment = said["env"]
    assert environment["GREETING"] == "one-two"
    assert said["args"][-1] == "--name=one-two/$(UNKNOWN)"
    assert environment["NODE"] in here.cluster.machines()
    assert environment["PLACE"] == here.name
    assert environment["KEY"] == "s3cret"
    assert environment["ALL_greeting"] == "hello"
    assert "ABSENT" not in environment
    assert environment["CONFIG"].endswith("/volumes/config/greeting")
    assert list(said["files"].values()) == ["hello", "s3cret", 'app="env"']


def test_the_clusters_own_environment_is_given_to_every_pod(here: Namespace) -> None:
    path = here.cluster.directory / "environment.json"
    before = path.read_text() if path.exists() else "{}"
    path.write_text(json.dumps({**json.loads(before), "GIVEN": "all", "OWN": "all"}))
    try:
        own = {"env": [{"name": "OWN", "value": "pod"}]}
        script = "import os; print(os.environ['GIVEN'], os.environ['OWN'])"
        here.apply(pod("given", script, own, restartPolicy="Never"))
        here.wait("pod/given", "jsonpath={.status.phase}=Succeeded")
    finally:
        path.write_text(before)
    assert here.logs("given") == "all pod\n"


def test_a_missing_secret_is_waited_for(here: Namespace) -> None:
    key = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "late", "key": "key"}}}
    here.apply(pod("waits", "import os; print(os.environ['KEY'])", {"env": [key]}))
    waiting = eventually(
        "it waits", lambda: here.container("waits").get("state", {}).get("waiting", {})
    )
    eventually(
        "it says for what",
        lambda: (
            here.container("waits")["state"].get("waiting", {}).get("message")
            == 'secret "late" not found'
        ),
    )
    assert waiting["reason"] in ("ContainerCreating", "CreateContainerConfigError")
    here.kubectl("create", "secret", "generic", "late", "-n", here.name, "--from-literal=key=v")
    eventually("it has run", lambda: here.container("waits").get("restartCount"))
    assert "v" in here.logs("waits")


def test_a_crash_ends_in_backoff_and_says_why(here: Namespace) -> None:
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    here.apply(pod("crash", "import sys; print('boom'); sys.exit(3)", policy))
    status = eventually(
        "it backs off",
        lambda: (
            (found := here.container("crash"))
            and found.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
            and found
        ),
    )
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "boom\n")
    assert status["restartCount"] >= 1
    assert here.get("pod", "crash")["status"]["phase"] == "Running"


def test_a_killed_server_is_restarted(here: Namespace) -> None:
    here.apply(pod("server", WAIT_FOREVER))
    here.wait("pod/server", "condition=Ready")
    here.cluster.kill_pod_process(here.name, "server")
    eventually("it was restarted", lambda: here.container("server")["restartCount"] == 1)
    here.wait("pod/server", "condition=Ready")
    assert here.container("server")["lastState"]["terminated"]["exitCode"] == 137


def test_too_much_memory_is_an_oom_kill(here: Namespace) -> None:
    limits = {"resources": {"limits": {"memory": "64Mi"}}}
    script = f"hoard = b'x' * (256 << 20); {WAIT_FOREVER}"
    here.apply(pod("hoarder", script, limits, restartPolicy="Never"))
    here.wait("pod/hoarder", "jsonpath={.status.phase}=Failed")
    ended = here.container("hoarder")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_deletion_waits_while_the_process_finishes(here: Namespace) -> None:
    script = (
        "import pathlib, signal, time\n"
        "def stop(*_):\n"
        "    pathlib.Path('/gate/asked').touch()\n"
        "    while not pathlib.Path('/gate/open').exists(): time.sleep(0.05)\n"
        "    raise SystemExit\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "pathlib.Path('/gate/listening').touch()\n"
        "while True: signal.pause()\n"
    )
    mount = {"volumeMounts": [{"name": "gate", "mountPath": "/gate"}]}
    volumes = [{"name": "gate", "emptyDir": {}}]
    here.apply(pod("slow", script, mount, volumes=volumes, terminationGracePeriodSeconds=60))
    gate = here.folder("slow") / "volumes" / "gate"
    eventually("it listens", (gate / "listening").exists)
    pid = here.pid("slow")
    here.delete("slow", "--wait=false")
    eventually("it was asked to end", (gate / "asked").exists)
    assert here.get("pod", "slow")["metadata"]["deletionTimestamp"]
    assert alive(pid)
    (gate / "open").touch()
    here.wait("pod/slow", "delete")
    assert not alive(pid)


def test_a_process_that_will_not_end_is_killed_with_all_it_started(here: Namespace) -> None:
    script = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(child.pid, flush=True)\n"
        "while True: signal.pause()\n"
    )
    here.apply(pod("stubborn", script, terminationGracePeriodSeconds=1))
    log = here.folder("stubborn") / "main.log"
    child = int(eventually("it has a child", lambda: log.exists() and log.read_text().strip()))
    pid = here.pid("stubborn")
    here.delete("stubborn")
    assert not alive(pid)
    eventually("its child is gone too", lambda: not alive(child))


def test_the_pre_stop_hook_runs_first(here: Namespace) -> None:
    path = here.cluster.directory / "hook"
    hook = {"preStop": {"exec": {"command": ["/bin/sh", "-c", f"echo $POD_IP > {path}"]}}}
    here.apply(pod("hooked", WAIT_FOREVER, {"lifecycle": hook, "env": [POD_IP]}))
    here.wait("pod/hooked", "condition=Ready")
    address = here.get("pod", "hooked")["status"]["podIP"]
    here.delete("hooked")
    assert path.read_text().strip() == address


def test_who_deletes_a_pod_again_with_less_grace_cuts_its_hook_short(here: Namespace) -> None:
    hook = {"preStop": {"sleep": {"seconds": 600}}}
    sleeper = pod("sleeper", WAIT_FOREVER, {"lifecycle": hook}, terminationGracePeriodSeconds=630)
    here.apply(sleeper)
    here.wait("pod/sleeper", "condition=Ready")
    here.delete("sleeper", "--wait=false")
    # with more grace nothing changes
    here.delete("sleeper", "--wait=false", "--grace-period=700")
    assert here.get("pod", "sleeper")["metadata"]["deletionGracePeriodSeconds"] == 630
    here.delete("sleeper", "--grace-period=1", "--timeout=60s")
    assert here.get("pod", "sleeper") == {}


def test_init_containers_run_first_and_in_order(here: Namespace) -> None:
    def step(name: str) -> Object:
        mount = [{"name": "work", "mountPath": "/data"}]
        script = f"open('/data/log', 'a').write('{name} ')"
        return {
            "name": name,
            "image": "local/python",
            "args": ["-c", script],
            "volumeMounts": mount,
        }

    mount = {"volumeMounts": [{"name": "work", "mountPath": "/data"}]}
    document = pod(
        "steps",
        "print(open('/data/log').read())",
        mount,
        initContainers=[step("one"), step("two")],
        volumes=[{"name": "work", "emptyDir": {}}],
        restartPolicy="Never",
    )
    here.apply(document)
    here.wait("pod/steps", "jsonpath={.status.phase}=Succeeded")
    assert here.kubectl("logs", "-n", here.name, "steps", "-c", "main") == "one two \n"


def test_a_sidecar_is_there_before_and_after_the_others(here: Namespace) -> None:
    sidecar = {
        "name": "side",
        "image": "local/python",
        "restartPolicy": "Always",
        "args": ["-c", f"open('/data/side', 'w').close(); {WAIT_FOREVER}"],
        "volumeMounts": [{"name": "work", "mountPath": "/data"}],
        "startupProbe": {
            "exec": {"command": ["/bin/sh", "-c", "test -e /data/side"]},
            "periodSeconds": 1,
        },
    }
    mount = {"volumeMounts": [{"name": "work", "mountPath": "/data"}]}
    script = "import os; print(os.listdir('/data'))"
    spec: Object = {"initContainers": [sidecar], "restartPolicy": "Never"}
    here.apply(pod("pair", script, mount, volumes=[{"name": "work", "emptyDir": {}}], **spec))
    here.wait("pod/pair", "jsonpath={.status.phase}=Succeeded")
    assert here.kubectl("logs", "-n", here.name, "pair", "-c", "main") == "['side']\n"
    side = here.get("pod", "pair")["status"]["initContainerStatuses"][0]
    assert "terminated" in side["state"]


def test_a_changed_config_map_reaches_its_volume(here: Namespace) -> None:
    words: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}}
    script = (
        "import pathlib, time\n"
        "while (word := pathlib.Path('/words/word').read_text()) != 'new': time.sleep(0.1)\n"
        "print(word)\n"
    )
    mount = {"volumeMounts": [{"name": "words", "mountPath": "/words"}]}
    volumes = [{"name": "words", "configMap": {"name": "words"}}]
    here.apply(
        {**words, "data": {"word": "old"}},
        pod("reader", script, mount, volumes=volumes, restartPolicy="Never"),
    )
    here.wait("pod/reader", "condition=Ready")
    here.apply({**words, "data": {"word": "new"}})
    here.wait("pod/reader", "jsonpath={.status.phase}=Succeeded")


def test_logs_can_be_followed_and_looked_up(here: Namespace) -> None:
    script = "print('one'); print('two'); raise SystemExit(1)"
    here.apply(pod("talks", script))
    eventually("it was restarted", lambda: here.container("talks").get("restartCount"))
    assert here.kubectl("logs", "-n", here.name, "talks", "--previous") == "one\ntwo\n"
    assert here.kubectl("logs", "-n", here.name, "talks", "--tail=1") == "two\n"

    here.apply(pod("counts", "import time\nfor n in range(9): print(n); time.sleep(0.1)"))
    eventually("it has begun", lambda: (here.folder("counts") / "main.pid").exists())
    followed = here.kubectl("logs", "-n", here.name, "counts", "-f")
    assert "8" in followed


def test_an_unknown_image_cannot_be_pulled(here: Namespace) -> None:
    here.apply(pod("nginx", "", {"image": "docker.io/library/nginx:1.29"}))
    seen: set[str] = set()

    def both() -> bool:
        waiting = here.container("nginx").get("state", {}).get("waiting", {})
        seen.add(waiting.get("reason", ""))
        return {"ErrImagePull", "ImagePullBackOff"} <= seen

    eventually("it backs off from pulling", both)
    status = here.get("pod", "nginx")["status"]
    assert status["phase"] == "Pending"
    assert "nginx:1.29" in status["containerStatuses"][0]["state"]["waiting"]["message"]


def test_a_program_that_is_not_there_is_a_start_error(here: Namespace) -> None:
    here.apply(pod("absent", "", {"command": ["/no/such/program"]}, restartPolicy="Never"))
    here.wait("pod/absent", "jsonpath={.status.phase}=Failed")
    ended = here.container("absent")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "/no/such/program" in ended["message"]
