from typing import Any

import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.serverpod import pod_template
from tests.unit.plan.objects import Object


def pod_spec(**spec: Any) -> Object:
    given = {"storage": {"hostPath": "/data"}, **spec}
    made: Object = pod_template(OllamaNodeSpec.model_validate(given), {})["spec"]
    return made


def models(container: Object) -> Object:
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "models"]
    return dict(mount)


def test_servers_of_a_stateful_set_have_a_folder_each() -> None:
    pod = pod_spec(replicas=2)
    (server,), (prepare,) = pod["containers"], pod["initContainers"]
    assert models(server)["subPathExpr"] == "$(POD_NAMESPACE)/$(POD_NAME)"
    assert models(prepare) == models(server)
    place = {one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"] for one in prepare["env"]}
    assert place == {"POD_NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"}
    assert [one for one in server["env"] if one["name"] in place] == prepare["env"]


def test_the_only_server_of_a_machine_has_the_folder_itself() -> None:
    pod = pod_spec(perNode={})
    (server,), (prepare,) = pod["containers"], pod["initContainers"]
    assert "subPathExpr" not in models(server)
    assert models(prepare) == models(server)
    assert prepare["env"] == []


def test_the_folder_is_given_away_with_no_more_rights_than_that_takes() -> None:
    resources = {"requests": {"cpu": "2"}, "limits": {"memory": "8Gi"}}
    pod = pod_spec(replicas=1, gpu={"vendor": "nvidia"}, resources=resources)
    (prepare,) = pod["initContainers"]
    assert prepare["command"] == ["chown", "--from=0:0", "65532:65532", "/var/lib/ollama"]
    security = prepare["securityContext"]
    assert (security["runAsUser"], security["runAsNonRoot"]) == (0, False)
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert prepare["resources"] == resources
    assert prepare["image"] == pod["containers"][0]["image"]
    assert pod["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(
    "spec",
    [
        {"template": {"securityContext": {"runAsUser": 1000}}},
        {"storage": {"size": "1Gi"}},
        {"storage": {"existingClaim": "models"}},
        {"storage": {"ephemeral": True}},
    ],
)
def test_elsewhere_nothing_runs_as_root(spec: Object) -> None:
    pod = pod_spec(replicas=1, **spec)
    assert "initContainers" not in pod
    assert pod["securityContext"]["runAsNonRoot"] is True
