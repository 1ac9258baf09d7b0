"""The chart, rendered by helm."""

from pathlib import Path
from typing import Any

import pytest

from dev.chart import CHART, ChartError, render, run
from dev.generate import ROOT

Object = dict[str, Any]

READ = ["list", "watch"]


def test_helm_finds_nothing_to_complain_about(helm: Path) -> None:
    assert "0 chart(s) failed" in run(helm, "lint", "--strict", str(CHART))


def test_the_pods_are_restricted(helm: Path) -> None:
    (deployment,) = render(helm)["deployment.yaml"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_operator_is_told_where_it_is_and_what_to_run(helm: Path) -> None:
    objects = render(helm, release="prod", namespace="fleets")
    (deployment,) = objects["deployment.yaml"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert container["command"] == ["ollama-fleet-operator"]
    assert "--leader-elect" in container["args"]
    assert container["image"] == environment["OLLAMA_FLEET_IMAGE"]["value"]
    field = environment["POD_NAMESPACE"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.namespace"
    role = environment["OLLAMA_FLEET_ROUTER_CLUSTER_ROLE"]["value"]
    assert role in [found["metadata"]["name"] for found in objects["clusterroles.yaml"]]
    port = container["ports"][0]
    assert port["name"] == "http"
    assert f"--port={port['containerPort']}" in container["args"]


def test_a_digest_wins_over_the_tag(helm: Path) -> None:
    digest = "sha256:" + "a" * 64
    (deployment,) = render(helm, values={"image": {"tag": "1", "digest": digest}})[
        "deployment.yaml"
    ]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"ollama-fleet/ollama-fleet@{digest}"


def test_the_router_may_read_the_fleet_and_nothing_else(helm: Path) -> None:
    assert rules(helm, "ollama-fleet-router") == {
        ("ollamafleet.dev", "ollamanodes"): READ,
        ("ollamafleet.dev", "routers"): READ,
        ("", "pods"): READ,
    }


def test_the_operator_writes_only_what_it_makes(helm: Path) -> None:
    granted = rules(helm, "ollama-fleet-operator") | rules(helm, "ollama-fleet-operator-machines")
    everything = {verb for verbs in granted.values() for verb in verbs}
    assert "*" not in {part for key in granted for part in key} | everything
    assert {key for key, verbs in granted.items() if "create" in verbs} == {
        ("", "configmaps"),
        ("", "services"),
        ("", "serviceaccounts"),
        ("apps", "statefulsets"),
        ("apps", "daemonsets"),
        ("apps", "deployments"),
        ("gateway.networking.k8s.io", "httproutes"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "networkpolicies"),
        ("policy", "poddisruptionbudgets"),
        ("rbac.authorization.k8s.io", "roles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("events.k8s.io", "events"),
        ("resource.k8s.io", "resourceclaimtemplates"),
    }
    deleted = {key for key, verbs in granted.items() if "delete" in verbs}
    assert deleted == {
        ("", "pods"),
        ("gateway.networking.k8s.io", "httproutes"),
        ("networking.k8s.io", "ingresses"),
        ("resource.k8s.io", "resourceclaimtemplates"),
    }
    assert granted["", "secrets"] == ["get"]
    assert granted["events.k8s.io", "events"] == ["list", "create"]
    assert not {"escalate", "deletecollection"} & everything


def test_the_operator_sees_gpus_and_claims_and_changes_neither(helm: Path) -> None:
    granted = rules(helm, "ollama-fleet-operator")
    assert granted["resource.k8s.io", "resourceclaims"] == READ
    machines = rules(helm, "ollama-fleet-operator-machines")
    assert machines == {
        ("", "nodes"): READ,
        ("resource.k8s.io", "resourceslices"): READ,
        ("storage.k8s.io", "storageclasses"): READ,
    }


def test_volumes_may_grow_and_nothing_else_happens_to_them(helm: Path) -> None:
    granted = rules(helm, "ollama-fleet-operator")
    assert granted["", "persistentvolumeclaims"] == ["get", *READ, "patch"]


def test_it_can_be_kept_to_some_namespaces(helm: Path) -> None:
    objects = render(helm, values={"watchNamespaces": ["llm", "lab"]})
    bindings = objects["bindings.yaml"]
    cluster_wide = [b["roleRef"]["name"] for b in bindings if b["kind"] == "ClusterRoleBinding"]
    assert cluster_wide == ["ollama-fleet-operator-machines"]
    (deployment,) = objects["deployment.yaml"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    bound = [b["metadata"]["namespace"] for b in bindings if b["kind"] == "RoleBinding"]
    named = [a.removeprefix("--namespace=") for a in container["args"] if "--namespace" in a]
    assert bound == named == ["llm", "lab"]


def test_definitions_can_be_left_out_or_removed_with_the_chart(helm: Path) -> None:
    kept = render(helm)["crds.yaml"]
    assert len(kept) == 3
    assert all(
        found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for found in kept
    )
    assert "crds.yaml" not in render(helm, values={"crds": {"enabled": False}})
    assert all(
        "annotations" not in found["metadata"]
        for found in render(helm, values={"crds": {"keep": False}})["crds.yaml"]
    )


def test_prometheus_finds_the_metrics(helm: Path) -> None:
    assert "servicemonitor.yaml" not in render(helm)
    wanted = {"enabled": True, "labels": {"release": "prometheus"}}
    objects = render(helm, values={"metrics": {"serviceMonitor": wanted}})
    (monitor,), (service,) = objects["servicemonitor.yaml"], objects["service.yaml"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    chosen = monitor["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_every_value_it_has_is_used(helm: Path) -> None:
    """Values by which an installation is made its own, all at once."""
    values: Object = {
        "imagePullSecrets": [{"name": "registry"}],
        "replicas": 2,
        "logFormat": "text",
        "logLevel": "debug",
        "probes": {"interval": "10s", "offlineAfter": "2m"},
        "pulls": {"maxParallel": 3},
        "serviceAccount": {"name": "runs-fleets", "annotations": {"a": "b"}},
        "resources": {"limits": {"memory": "1Gi"}},
        "podLabels": {"team": "ml"},
        "podAnnotations": {"note": "x"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
    }
    objects = render(helm, values=values)
    (deployment,) = objects["deployment.yaml"]
    template = deployment["spec"]["template"]
    (account,) = objects["serviceaccount.yaml"]
    assert account["metadata"]["annotations"] == {"a": "b"}
    assert account["metadata"]["name"] == template["spec"]["serviceAccountName"] == "runs-fleets"
    assert {s["name"] for b in objects["bindings.yaml"] for s in b["subjects"]} == {"runs-fleets"}
    assert deployment["spec"]["replicas"] == 2
    assert template["metadata"]["labels"]["team"] == "ml"
    assert template["metadata"]["annotations"] == {"note": "x"}
    assert template["spec"]["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    told = {"--log-format=text", "--log-level=debug", "--probe-interval=10s", "--offline-after=2m"}
    told |= {"--max-parallel-pulls=3"}
    assert told <= set(template["spec"]["containers"][0]["args"])
    for name in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity"):
        assert template["spec"][name] == values[name]
    assert template["spec"]["priorityClassName"] == values["priorityClassName"]


def test_a_mirror_is_there_if_wanted(helm: Path) -> None:
    assert "mirror.yaml" not in render(helm)
    values: Object = {
        "mirror": {
            "enabled": True,
            "size": "50Gi",
            "storage": {"size": "60Gi", "storageClassName": "fast"},
            "registries": ["registry.ollama.ai", "http://models.lan:5000"],
            "credentialsSecret": "models",
            "env": [{"name": "HTTPS_PROXY", "value": "http://proxy.lan:3128"}],
            "nodeSelector": {"disk": "large"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "system-cluster-critical",
        },
        "metrics": {"serviceMonitor": {"enabled": True}},
    }
    objects = render(helm, values=values)
    by_kind = {found["kind"]: found for found in objects["mirror.yaml"]}
    mirror, service = by_kind["StatefulSet"], by_kind["Service"]
    policy, monitor = by_kind["NetworkPolicy"], by_kind["ServiceMonitor"]
    (operator,) = objects["deployment.yaml"][0]["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in operator["env"]}
    port = service["spec"]["ports"][0]["port"]
    name = service["metadata"]["name"]
    assert environment["OLLAMA_FLEET_MIRROR"] == f"{name}.$(POD_NAMESPACE).svc:{port}"
    assert environment["OLLAMA_FLEET_MIRROR_REGISTRIES"] == "registry.ollama.ai,models.lan:5000"
    pod = mirror["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == operator["securityContext"]
    assert {"--size=50Gi", "--registry=http://models.lan:5000"} <= set(container["args"])
    assert container["env"] == values["mirror"]["env"]
    (secret,) = pod["volumes"]
    (item,) = secret["secret"]["items"]
    mounted = next(m for m in container["volumeMounts"] if m["name"] == secret["name"])
    assert f"--credentials={mounted['mountPath']}/{item['path']}" in container["args"]
    (claim,) = mirror["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"] == {"storage": "60Gi"}
    for field in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[field] == values["mirror"][field]
    labels = mirror["spec"]["template"]["metadata"]["labels"]
    for chosen in (
        service["spec"]["selector"],
        policy["spec"]["podSelector"]["matchLabels"],
        monitor["spec"]["selector"]["matchLabels"],
    ):
        assert chosen.items() <= labels.items()
    # servers let in what bears the operator's name
    assert labels["app.kubernetes.io/name"] != "ollama-fleet"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image": {"repositry": "x"}}, "repositry"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"replicas": -1}, "/replicas"),
        ({"watchNamespaces": ["Not_A_Name"]}, "/watchNamespaces/0"),
        ({"logFormat": "xml"}, "/logFormat"),
        ({"mirror": {"registries": ["ftp://a"]}}, "/mirror/registries/0"),
        ({"mirror": {"size": "much"}}, "/mirror/size"),
        ({"watchNamespace": "llm"}, "watchNamespace"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Path, values: Object, said: str) -> None:
    with pytest.raises(ChartError, match=said):
        render(helm, values=values)


def test_the_chart_carries_the_definitions_as_they_are() -> None:
    for path in (ROOT / "crds").iterdir():
        assert (CHART / "files" / "crds" / path.name).read_text() == path.read_text()


def rules(helm: Path, role: str) -> dict[tuple[str, str], list[str]]:
    """The verbs a role grants by API group and resource."""
    (found,) = (
        each for each in render(helm)["clusterroles.yaml"] if each["metadata"]["name"] == role
    )
    return {
        (group, resource): rule["verbs"]
        for rule in found["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
