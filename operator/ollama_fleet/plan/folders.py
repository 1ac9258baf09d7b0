"""Models in a folder of the machine: one for each server, which the server's user may write to."""

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.result import Object

PREPARE = "prepare"
"""The init container that gives the folder to the server's user."""
_PLACE = {"POD_NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"}


def settle(pod: Object, spec: OllamaNodeSpec, user: int) -> None:
    """Let a pod keep its models in spec.storage.hostPath.

    The pods of a StatefulSet may meet on a machine, so each has a folder of its own below. The
    kubelet makes folders for root; a template that names a user is for folders somebody prepares.
    """
    if spec.storage.host_path is None:
        return
    server = pod["containers"][0]
    (mount,) = (one for one in server["volumeMounts"] if one["name"] == "models")
    place = []
    if spec.per_node is None:
        place = [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in _PLACE.items()
        ]
        server["env"] = [*place, *server["env"]]
        mount["subPathExpr"] = "/".join(f"$({name})" for name in _PLACE)
    if "runAsUser" not in (spec.template.security_context or {}):
        pod["initContainers"] = [_prepare(server, place, mount, user)]


def _prepare(server: Object, place: list[Object], mount: Object, user: int) -> Object:
    resources = {
        kind: plain
        for kind in ("requests", "limits")
        if (plain := _without_gpus(server["resources"].get(kind) or {}))
    }
    return {
        "name": PREPARE,
        "image": server["image"],
        "imagePullPolicy": server["imagePullPolicy"],
        # what is not root's was given to somebody, and stays theirs
        "command": ["chown", "--from=0:0", f"{user}:{user}", mount["mountPath"]],
        "env": place,
        "resources": resources,
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]},
        },
        "volumeMounts": [dict(mount)],
    }


def _without_gpus(resources: Object) -> Object:
    return {name: amount for name, amount in resources.items() if "/" not in name}
