"""The pages of docs/reference that tell every field: from the definitions the API server gets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dev import fleetapi, metrics
from dev.tables import cell, table
from ollama_fleet.api import GROUP, VERSION
from ollama_fleet.api.crd import RESOURCES, Resource, Schema, crd
from ollama_fleet.api.pattern import VALIDATIONS

_DEFAULT = re.compile(r"(?:^|(?<=[.;] ))Defaults to (.+)\.$")
_FORM = re.compile(r"not (?:a|an|the) ([^:]+): (.+)")
_COUNT = "number or percentage"
_NAMES = {"count or a share": _COUNT, "number of requests": "number or Auto"}


@dataclass(frozen=True)
class Section:
    """An object's fields: a table of its own."""

    path: str
    schema: Schema

    @property
    def anchor(self) -> str:
        """What the web page calls its heading."""
        return re.sub(r"[^a-z0-9 -]", "", self.path.lower()).replace(" ", "-")


def page(resource: Resource) -> str:
    """The reference of one kind, as Markdown."""
    definition = crd(resource)["spec"]
    (version,) = definition["versions"]
    root: Schema = version["schema"]["openAPIV3Schema"]
    kind, names = resource.model.__name__, definition["names"]
    forms: dict[str, str] = {}
    spec = list(_sections("spec", root["properties"]["spec"]))
    status = list(_sections("status", root["properties"]["status"]))
    body = [line for section in (*spec, *status) for line in _section(section, forms)]
    lines = [
        f"# {kind}",
        "",
        f"{root['description']}",
        "",
        *table(
            ("apiVersion", "kind", "kubectl get", "scope"),
            [(f"`{GROUP}/{VERSION}`", f"`{kind}`", _kubectl(names), definition["scope"].lower())],
        ),
        "",
        "Made from the definitions by `make generate`. The same is told by "
        f"`kubectl explain {names['singular']}.spec`.",
        "",
        "Contents: "
        + " · ".join(f"[{one.path}](#{one.anchor})" for one in (*spec, *status))
        + " · [columns](#columns) · [conditions](#conditions) · [forms](#forms)",
        "",
        *_refusals(root),
        *_scale(version),
        *body,
        *_columns(version),
        *_conditions(),
        "## Forms",
        "",
        "How texts are written that have a form; what has another is refused.",
        "",
        *table(("Type", "Form"), sorted(forms.items())),
    ]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    kinds = {f"{one.model.__name__.lower()}.md": page(one) for one in RESOURCES}
    return kinds | {"metrics.md": metrics.page(), "fleet-api.md": fleetapi.page()}


def _kubectl(names: Schema) -> str:
    words = (names["plural"], *names["shortNames"], *names["categories"])
    return ", ".join(f"`{word}`" for word in words)


def _sections(path: str, schema: Schema) -> Iterator[Section]:
    """The object and those in it, outer ones first."""
    yield Section(path, schema)
    for name, child in schema["properties"].items():
        below = f"{path}.{name}"
        if "properties" in child:
            yield from _sections(below, child)
        elif "properties" in child.get("items", {}):
            yield from _sections(f"{below}[]", child["items"])


def _section(section: Section, forms: dict[str, str]) -> list[str]:
    schema = section.schema
    required, written = schema.get("required", ()), section.path.startswith("spec")
    rows: list[tuple[str, ...]] = []
    for name, child in schema["properties"].items():
        meaning, default = _meaning(child)
        if default == "" and name in required:
            default = "required"
        kind = _type(child, section.path, name, forms)
        rows.append(
            (f"`{name}`", kind, default, meaning) if written else (f"`{name}`", kind, meaning)
        )
    head = ("Field", "Type", "Default", "Meaning") if written else ("Field", "Type", "Meaning")
    level = "##" if "." not in section.path else "###"
    return [
        f"{level} {section.path}",
        "",
        *([schema["description"], ""] if "description" in schema else []),
        *(table(head, rows) if rows else ["No fields: `{}`."]),
        "",
        *_refusals(schema, forms),
    ]


def _meaning(schema: Schema) -> tuple[str, str]:
    """What the description says, and the default at its end."""
    text = schema.get("description", "")
    found = _DEFAULT.search(text)
    if found is None:
        return text, ""
    return text[: found.start()].strip(), f"`{found[1]}`" if " " not in found[1] else found[1]


def _type(schema: Schema, path: str, name: str, forms: dict[str, str]) -> str:
    if "properties" in schema:
        return f"object, see [{path}.{name}](#{Section(f'{path}.{name}', schema).anchor})"
    if schema.get("type") == "array":
        return f"list: {_items(schema['items'], path, name, forms)}{_entries(schema)}"
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return "object of any fields"
    if "additionalProperties" in schema:
        value = _scalar(schema["additionalProperties"], forms)
        return f"map of text to {value}, at most {schema['maxProperties']}"
    return _scalar(schema, forms)


def _items(schema: Schema, path: str, name: str, forms: dict[str, str]) -> str:
    if "properties" in schema:
        below = Section(f"{path}.{name}[]", schema)
        return f"objects, see [{below.path}](#{below.anchor})"
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return "objects of any fields"
    return _scalar(schema, forms)


def _entries(schema: Schema) -> str:
    least, most = schema.get("minItems", 0), schema["maxItems"]
    count = f", {least} to {most}" if least else f", at most {most}"
    keys = schema.get("x-kubernetes-list-map-keys", ())
    return count + "".join(f", each `{key}` once" for key in keys)


def _scalar(schema: Schema, forms: dict[str, str]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    kind = schema.get("type", "text")
    if kind == "boolean":
        return "true or false"
    if kind in ("integer", "number"):
        least, most = schema.get("minimum"), schema.get("maximum")
        if most is None:
            return kind if least is None else f"{kind}, {least} or more"
        return f"{kind}, {least} to {most}"
    for rule in schema.get(VALIDATIONS, ()):
        if found := _FORM.fullmatch(rule["message"]):
            name = _NAMES.get(found[1], found[1])
            forms[name] = found[2]
            return name
    if schema.get("format"):
        return str(schema["format"])
    return f"text of at most {schema['maxLength']} characters"


def _refusals(schema: Schema, forms: dict[str, str] | None = None) -> list[str]:
    """What the API server says of an object's mistakes: its own rules, and those of its texts that
    are about more than their form."""
    told = [rule["message"] for rule in schema.get(VALIDATIONS, ())]
    if forms is not None:
        for name, child in schema["properties"].items():
            told += [
                f"`{name}`: {rule['message']}"
                for node in (child, child.get("items", {}))
                if "properties" not in node
                for rule in node.get(VALIDATIONS, ())
                if not _FORM.fullmatch(rule["message"])
            ]
    if not told:
        return []
    return ["Refused by the API server:", "", *(f"- {cell(one)}" for one in told), ""]


def _scale(version: Schema) -> list[str]:
    if "scale" not in version["subresources"]:
        return []
    told = (
        "It has the scale subresource: `kubectl scale`, a HorizontalPodAutoscaler and KEDA set "
        "`spec.replicas`."
    )
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    if "default" not in spec["properties"]["replicas"]:
        told += (
            " One without that field has no number to scale: Kubernetes answers a reader of its "
            "scale with 500 and the name of the field, an autoscaler says `FailedGetScale` and "
            "leaves it alone, and `kubectl scale` is refused."
        )
    return [told, ""]


def _columns(version: Schema) -> list[str]:
    rows = [
        (
            str(one["name"]).upper(),
            "with `-o wide`" if one.get("priority") else "always",
            f"`{one['jsonPath']}`",
        )
        for one in version["additionalPrinterColumns"]
    ]
    return ["## Columns", "", *table(("Column", "Shown", "Is"), rows), ""]


def _conditions() -> list[str]:
    rows = [
        ("`Ready`", "All is as the spec says."),
        ("`Reconciling`", "The operator is getting there by itself."),
        ("`Stalled`", "It waits for you: the message says what is wrong and what to do."),
    ]
    return [
        "## Conditions",
        "",
        *table(("Condition", "True while"), rows),
        "",
        "[reasons.md](reasons.md) explains every reason they give.",
        "",
    ]
