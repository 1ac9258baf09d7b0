"""The chart, rendered by helm."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dev.chart import CHART, ChartError, render, run
from dev.conformity import SETTINGS
from dev.generate import ROOT
from ollama_fleet.api import API_VERSION
from ollama_fleet.api.router import RouterSpec
from ollama_fleet.plan.router import Observed, Program, plan_router

Object = dict[str, Any]

RECOMMENDED = {
    f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "part-of", "managed-by")
}
READ = ["list", "watch"]


def test_helm_finds_nothing_to_complain_about(helm: Path) -> None:
    assert "0 chart(s) failed" in run(helm, "lint", "--strict", str(CHART))


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
    console = [one for one in objects["console.yaml"] if one["kind"] == "Service"]
    services = [*objects["service.yaml"], *console]
    for monitor, service in zip(objects["servicemonitor.yaml"], services, strict=True):
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
    ("values", "path", "why"),
    [
        ({"image": {"repositry": "x"}}, "/image", "'repositry' not allowed"),
        ({"image": {"digest": "latest"}}, "/image/digest", "does not match pattern"),
        ({"replicas": "2"}, "/replicas", "want integer"),
        ({"replicas": -1}, "/replicas", "minimum"),
        ({"watchNamespace": "llm"}, "", "'watchNamespace' not allowed"),
        ({"watchNamespaces": "llm"}, "/watchNamespaces", "want array"),
        ({"watchNamespaces": ["Not_A_Name"]}, "/watchNamespaces/0", "does not match pattern"),
        ({"imagePullSecrets": ["registry"]}, "/imagePullSecrets/0", "want object"),
        ({"logFormat": "xml"}, "/logFormat", "must be one of 'json', 'text'"),
        ({"crds": {"keep": "yes"}}, "/crds/keep", "want boolean"),
        ({"rbac": {"scope": "Namespace"}}, "/rbac/scope", "'Cluster', 'Namespaced'"),
        ({"resources": {"limit": {}}}, "/resources", "'limit' not allowed"),
        ({"tolerations": [{"effects": "NoExecute"}]}, "/tolerations/0", "'effects' not allowed"),
        ({"metrics": {"podMonitor": {"enable": True}}}, "/metrics/podMonitor", "'enable'"),
        ({"mirror": {"registries": ["ftp://a"]}}, "/mirror/registries/0", "does not match"),
        ({"mirror": {"size": "much"}}, "/mirror/size", "does not match pattern"),
        ({"probes": {"interval": 30}}, "/probes/interval", "want string"),
        (
            {"commonLabels": {"app.kubernetes.io/name": "x"}},
            "/commonLabels/app.kubernetes.io~1name",
            "false schema",
        ),
        ({"test": {"timeout": "soon"}}, "/test/timeout", "does not match pattern"),
    ],
)
def test_a_mistake_is_refused_with_its_path(
    helm: Path, values: Object, path: str, why: str
) -> None:
    with pytest.raises(ChartError) as refused:
        render(helm, values=values)
    (line,) = (each for each in str(refused.value).splitlines() if each.startswith("- at '"))
    assert line.startswith(f"- at '{path}': ")
    assert why in line


def test_no_value_is_taken_that_is_not_known() -> None:
    """Open are objects whose fields are Kubernetes' or the user's."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    left_open = {
        path for path, each in objects_of(schema) if each.get("additionalProperties", True)
    }
    assert left_open == {
        "global",
        "test.ollamaNode",  # a spec, which the API server reads
        "test.router",
        "affinity.nodeAffinity",
        "affinity.podAffinity",
        "affinity.podAntiAffinity",
        "selector.matchExpressions",
        "variable.valueFrom",
        "amounts",
        "labels",
        "strings",
    }


def objects_of(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every object of a schema, by where it is."""
    if schema.get("type") == "object":
        yield path, schema
    for name, each in {**schema.get("properties", {}), **schema.get("definitions", {})}.items():
        yield from objects_of(each, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from objects_of(schema["items"], path)


def test_labels_and_annotations_reach_every_object(helm: Path) -> None:
    values = {
        **SETTINGS["with everything"],
        "commonLabels": {"team": "ml"},
        "commonAnnotations": {"owner": "ml@example.com"},
    }
    found = [each for of in render(helm, values=values, hooks=True).values() for each in of]
    assert {each["kind"] for each in found} >= {"Job", "Pod", "PodMonitor", "NetworkPolicy"}
    for each in found:
        named = f"{each['kind']} {each['metadata']['name']}"
        assert each["metadata"]["labels"]["team"] == "ml", named
        assert each["metadata"]["annotations"]["owner"] == "ml@example.com", named
        assert set(each["metadata"]["labels"]) >= RECOMMENDED, named
        template = (each.get("spec") or {}).get("template", {}).get("metadata")
        assert template is None or template["labels"]["team"] == "ml", named
        chosen = (each.get("spec") or {}).get("selector") or {}
        assert "team" not in (chosen.get("matchLabels") or chosen), named


def test_every_pod_is_restricted(helm: Path) -> None:
    rendered = render(helm, values=SETTINGS["with everything"], hooks=True)
    pods = [pod for of in rendered.values() for each in of if (pod := pod_of(each))]
    assert len(pods) == 5
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def pod_of(found: Object) -> Object | None:
    spec: Object = found.get("spec") or {}
    if found["kind"] == "Pod":
        return spec
    pod: Object | None = (spec.get("template") or {}).get("spec")
    return pod


def test_without_the_cluster_it_has_roles_alone(helm: Path) -> None:
    values: Object = {"rbac": {"scope": "Namespaced"}, "crds": {"enabled": False}}
    wide = render(helm)
    (here,) = [render(helm, values=values, namespace="llm", release="r", hooks=True)]
    kinds = {each["kind"] for of in here.values() for each in of}
    assert not {kind for kind in kinds if kind.startswith(("Cluster", "CustomResource"))}
    assert {each["metadata"]["namespace"] for of in here.values() for each in of} == {"llm"}
    operator, router = here["roles.yaml"]
    of_cluster, _, of_router = wide["clusterroles.yaml"]
    assert router["rules"] == of_router["rules"]
    handing_out = [each for each in of_cluster["rules"] if "bind" in each["verbs"]]
    assert operator["rules"] == [each for each in of_cluster["rules"] if each not in handing_out]
    (binding,) = here["bindings.yaml"]
    assert binding["roleRef"]["kind"] == "Role"
    assert binding["roleRef"]["name"] == operator["metadata"]["name"]
    (container,) = here["deployment.yaml"][0]["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["OLLAMA_FLEET_ROUTER_ROLE"] == router["metadata"]["name"]
    assert "OLLAMA_FLEET_ROUTER_CLUSTER_ROLE" not in environment
    assert "--namespace=llm" in container["args"]
    many = render(helm, values={**values, "watchNamespaces": ["a", "b"]})
    assert [each["metadata"]["namespace"] for each in many["roles.yaml"]] == ["a", "a", "b", "b"]


def test_two_operators_are_not_evicted_at_once(helm: Path) -> None:
    assert "poddisruptionbudget.yaml" not in render(helm)
    ((budget,),) = [render(helm, values={"replicas": 2})["poddisruptionbudget.yaml"]]
    (deployment,) = render(helm, values={"replicas": 2})["deployment.yaml"]
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert budget["spec"]["maxUnavailable"] == 1


def test_metrics_are_read_by_those_who_may(helm: Path) -> None:
    (policy,) = render(helm)["networkpolicy.yaml"]
    (deployment,) = render(helm)["deployment.yaml"]
    assert policy["spec"]["podSelector"] == deployment["spec"]["selector"]
    ((rule,),) = [policy["spec"]["ingress"]]
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]
    (nobody,) = render(helm, values={"networkPolicy": {"metricsFrom": []}})["networkpolicy.yaml"]
    assert nobody["spec"]["ingress"] == []
    assert "networkpolicy.yaml" not in render(helm, values={"networkPolicy": {"enabled": False}})


def test_routers_are_found_wherever_they_are(helm: Path) -> None:
    def monitor(**values: Any) -> Object:
        wanted = {"metrics": {"podMonitor": {"enabled": True}}, **values}
        (found,) = render(helm, values=wanted)["servicemonitor.yaml"]
        spec: Object = found["spec"]
        return spec

    assert monitor()["namespaceSelector"] == {"any": True}
    limited = monitor(watchNamespaces=["llm"])
    assert limited["namespaceSelector"] == {"matchNames": ["llm"]}
    (endpoint,) = limited["podMetricsEndpoints"]
    spec = RouterSpec.model_validate({})
    made = plan_of_router(spec)
    assert endpoint["port"] in [port["name"] for port in made]


def plan_of_router(spec: RouterSpec) -> list[Object]:
    """The ports of a router's pods."""
    meta = {"name": "chat", "namespace": "llm", "uid": "1"}
    router = {"apiVersion": API_VERSION, "kind": "Router", "metadata": meta, "spec": spec.wire()}
    observed = Observed(None, None, (), ())
    plan = plan_router(router, observed, Program("image", "role"), datetime.now(UTC))
    (deployment,) = (each for each in plan.apply if each["kind"] == "Deployment")
    ports: list[Object] = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    return ports


def test_who_leaves_with_the_definitions_sees_fleets_off(helm: Path) -> None:
    assert "uninstall.yaml" not in render(helm, hooks=True)
    gone = render(helm, values={"crds": {"keep": False}}, hooks=True)["uninstall.yaml"]
    assert all(each["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete" for each in gone)
    (role,) = (each for each in gone if each["kind"] == "ClusterRole")
    assert [rule["verbs"] for rule in role["rules"]] == [["list", "delete"]]


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


def test_the_console_sees_the_fleet_and_changes_nothing(helm: Path) -> None:
    """Not by itself: what people change, they change with their own tokens."""
    roles = {
        one["metadata"]["name"]: {
            (group, resource): rule["verbs"]
            for rule in one["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
        for one in render(helm)["console.yaml"]
        if one["kind"] in ("ClusterRole", "Role")
    }
    kinds = ("ollamanodes", "modeldistributions", "routers")
    assert roles.pop("ollama-fleet-agent") == {
        ("ollamafleet.dev", "ollamanodes"): ["get", "list", "create", "patch"]
    }
    assert roles == {
        "ollama-fleet-console-reviews": {
            ("authentication.k8s.io", "tokenreviews"): ["create"],
            ("authorization.k8s.io", "subjectaccessreviews"): ["create"],
        },
        # the last of that name is the Role for one ConfigMap
        "ollama-fleet-console": {("", "configmaps"): ["get"]},
    }
    (own,) = (
        one["rules"]
        for one in render(helm)["console.yaml"]
        if (one["kind"], one["metadata"]["name"]) == ("ClusterRole", "ollama-fleet-console")
    )
    assert own == [
        {"apiGroups": ["ollamafleet.dev"], "resources": list(kinds), "verbs": ["list", "watch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]


def test_the_console_can_be_left_out_or_kept_to_some_namespaces(helm: Path) -> None:
    assert "console.yaml" not in render(helm, values={"console": {"enabled": False}})
    objects = render(helm, values={"watchNamespaces": ["llm", "lab"]})["console.yaml"]
    everywhere = [o["roleRef"]["name"] for o in objects if o["kind"] == "ClusterRoleBinding"]
    assert everywhere == ["ollama-fleet-console-reviews"]
    (deployment,) = (one for one in objects if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"--register-in=llm", "--namespace=llm", "--namespace=lab"} <= set(container["args"])
    assert "--anonymous" not in container["args"]
