"""The calls of the Kubernetes port, each on the same object."""

from collections.abc import Awaitable, Callable
from typing import Any

from ollama_fleet.kube import Kube, Object
from ollama_fleet.kube.kinds import CONFIG_MAP

ONE: Object = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "llm", "uid": "1"},
    "status": {},
}
Calls = dict[str, Callable[[Kube], Awaitable[Any]]]

WRITES: Calls = {
    "apply": lambda kube: kube.apply(ONE),
    "apply_status": lambda kube: kube.apply_status(ONE),
    "create": lambda kube: kube.create(ONE),
    "update": lambda kube: kube.update(ONE),
    "patch": lambda kube: kube.patch(CONFIG_MAP, "a", "llm", {}),
    "delete": lambda kube: kube.delete(CONFIG_MAP, "a", "llm"),
}
OTHERS: Calls = {
    "get": lambda kube: kube.get(CONFIG_MAP, "a", "llm"),
    "list": lambda kube: kube.list(CONFIG_MAP, "llm"),
    "token": lambda kube: kube.token("a", "llm", seconds=600),
}
