"""CustomResourceDefinitions from the models: structural, bounded, with their CEL rules."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ollama_fleet.api import GROUP, VERSION
from ollama_fleet.api.modeldistribution import ModelDistribution
from ollama_fleet.api.ollamanode import OllamaNode
from ollama_fleet.api.pattern import VALIDATIONS
from ollama_fleet.api.router import Router

Schema = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``; priority 1 shows with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class Resource:
    """What the API server is told of one kind."""

    model: type[BaseModel]
    plural: str
    short: str
    columns: tuple[Column, ...]
    runs: bool = False
    """Whether pods run for it: it scales, and Services are named after it."""


_STATUS = Column("Status", '.status.conditions[?(@.type=="Ready")].reason')
_MESSAGE = Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1)
_AGE = Column("Age", ".metadata.creationTimestamp", "date")

RESOURCES = (
    Resource(
        OllamaNode,
        "ollamanodes",
        "on",
        (
            Column("Ready", ".status.ready"),
            _STATUS,
            Column("Memory", ".status.memory.perServer"),
            Column("Version", ".status.version"),
            Column("Models", ".status.models", "integer"),
            Column("Source", ".status.memory.source", priority=1),
            _MESSAGE,
            _AGE,
        ),
        runs=True,
    ),
    Resource(
        ModelDistribution,
        "modeldistributions",
        "md",
        (
            Column("Desired", ".status.summary.desired", "integer"),
            Column("Installed", ".status.summary.installed", "integer"),
            Column("Pulling", ".status.summary.pulling", "integer"),
            Column("Failed", ".status.summary.failed", "integer"),
            Column("Progress", ".status.progress.percent"),
            Column("ETA", ".status.progress.eta"),
            _STATUS,
            _MESSAGE,
            _AGE,
        ),
    ),
    Resource(
        Router,
        "routers",
        "ort",
        (
            Column("Ready", ".status.ready"),
            Column("Servers", ".status.servers.summary"),
            Column("Models", ".status.modelCount", "integer"),
            Column("URL", ".status.url"),
            _STATUS,
            _MESSAGE,
            _AGE,
        ),
        runs=True,
    ),
)

_SHORT_NAME = {
    "rule": "self.metadata.name.size() <= 52",
    "message": "the name is too long for the objects made from it: write at most 52 characters",
    "fieldPath": ".metadata.name",
    "reason": "FieldValueInvalid",
}
_HOST_NAME = {
    "rule": "self.metadata.name.matches(r'^[a-z][-a-z0-9]*$')",
    "message": "the name is no host name, and Services are named after it: write lower-case "
    "letters, digits and -, with a letter in front",
    "fieldPath": ".metadata.name",
    "reason": "FieldValueInvalid",
}


def crd(resource: Resource) -> Schema:
    """The CustomResourceDefinition of one kind."""
    kind = resource.model.__name__
    schema = structural(resource.model)
    # the API server adds these itself and allows no description of ours for metadata
    schema["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        **schema["properties"],
    }
    named = (_SHORT_NAME, *((_HOST_NAME,) if resource.runs else ()))
    schema[VALIDATIONS] = [*named, *schema.get(VALIDATIONS, ())]
    subresources: Schema = {"status": {}}
    if resource.runs:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
        _fill_in_replicas(schema["properties"]["spec"], resource.model)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": resource.plural,
                "singular": kind.lower(),
                "shortNames": [resource.short],
                "categories": ["ollama"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(column) for column in resource.columns],
                }
            ],
        },
    }


def _fill_in_replicas(spec: Schema, model: type[BaseModel]) -> None:
    """Have the API server write `spec.replicas` where it is missing and every object has some.

    It is the one field with a default: the scale subresource shows what is stored, and fails where
    nothing is.
    """
    annotation = model.model_fields["spec"].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    default = annotation.model_fields["replicas"].default
    if default is not None:
        spec["properties"]["replicas"]["default"] = default
        # a spec may be empty then; who takes its last field away by server-side apply leaves null,
        # which would be refused
        spec["default"] = {}


def structural(model: type[BaseModel]) -> Schema:
    """A structural OpenAPI v3 schema: no references, no nulls, no titles, no unbounded list.

    Defaults are told in the description and applied by the readers, so that an upgrade of the
    operator does not leave yesterday's defaults written into every object.
    """
    raw = model.model_json_schema(by_alias=True, mode="validation")
    definitions = raw.pop("$defs", {})
    schema = _clean(raw, definitions)
    assert isinstance(schema, dict)
    return schema


def _clean(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_clean(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    node = dict(node)
    if "$ref" in node:
        definition = definitions[node.pop("$ref").rsplit("/", 1)[1]]
        node = {**definition, **node}
        return _clean(node, definitions)
    if len(node.get("allOf", ())) == 1:
        return _clean({**node.pop("allOf")[0], **node}, definitions)
    if "anyOf" in node and not node.get("x-kubernetes-int-or-string"):
        (choice,) = [option for option in node.pop("anyOf") if option.get("type") != "null"]
        return _clean({**choice, **node}, definitions)
    default = node.pop("default", None)
    node.pop("title", None)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if node.get("type") == "object" and "properties" not in node:
        _bound_map(node, definitions)
    elif "properties" in node:
        node["properties"] = {
            name: _clean(value, definitions) for name, value in node["properties"].items()
        }
    if "items" in node:
        node["items"] = _clean(node["items"], definitions)
    _describe(node, default)
    order = ("description", "type", "format", "enum", "required", "properties", "items")
    return {key: node[key] for key in (*order, *sorted(node)) if key in node}


def _bound_map(node: Schema, definitions: Schema) -> None:
    node.pop("propertyNames", None)
    if node.get("x-kubernetes-preserve-unknown-fields"):
        node.pop("additionalProperties", None)
    elif isinstance(node.get("additionalProperties"), dict):
        node["additionalProperties"] = _clean(node["additionalProperties"], definitions)


def _describe(node: Schema, default: Any) -> None:
    scalar = isinstance(default, (bool, int, float, str)) and default != ""
    if (scalar and "type" in node) or (scalar and "anyOf" in node):
        shown = str(default).lower() if isinstance(default, bool) else default
        text = f"Defaults to {shown}."
        node["description"] = f"{node['description']} {text}" if "description" in node else text


def _column(column: Column) -> Schema:
    made: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        made["priority"] = column.priority
    return made
