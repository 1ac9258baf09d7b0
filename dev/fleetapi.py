"""The page docs/reference/fleet-api.md: from the OpenAPI document that the console serves."""

from collections.abc import Iterator
from typing import Any

from dev.tables import cell, table
from ollama_fleet.console.calls import CALLS, REFUSALS
from ollama_fleet.console.openapi import document

Schema = dict[str, Any]

_BEGIN = """The console serves it, in Service `ollama-fleet-console`, port 8080; the document itself
is `GET /openapi.json`. A Router with `fleetApi: true` hands `/api/agents`, `/api/tasks`,
`/api/models`, `/api/health` and `/api/fit` on to it, so that one URL does for both.

<!-- not run: the local cluster has no port-forward; the tests of the console make every call -->
```sh
kubectl -n ollama-fleet port-forward service/ollama-fleet-console 8080 &
TOKEN=$(kubectl create token NAME)       # of a service account; what it may, it may here
curl -H "Authorization: Bearer $TOKEN" http://localhost:8080/api/agents
```"""
_RIGHTS = """## Who may what

Kubernetes is asked whose token it is (TokenReview), and what they may (SubjectAccessReview); both
answers are believed for 30 s. What is changed is changed with the token of whoever asks, so RBAC
and admission see them, and the console has no right to change anything.

| To | one needs, in the namespace |
|----|-----------------------------|
| see agents, nodes, fits and models | list ollamanodes |
| see tasks and distributions | list modeldistributions |
| see routers, and what passes through them | list routers |
| see events | list events (events.k8s.io) |
| register and report (ClusterRole `ollama-fleet-agent`) | get, list, create and patch ollamanodes |
| remove an agent | delete ollamanodes |
| pull and distribute | create, get and patch modeldistributions |
| cordon | patch ollamanodes |
| suspend, and try again what was given up | patch modeldistributions |

Bind `ollama-fleet-viewer` or `ollama-fleet-editor` to people, which the roles view and edit of
the cluster contain. With `console.anonymous=true` those without a token may look, and change
nothing. There are no cookies, so a page of another site cannot use anybody's rights; changes that
a browser says come from one are refused all the same. No Secret is read, so none is ever shown.

## What becomes of it

- A machine that registers becomes an external OllamaNode, named after machine and port, and is
  probed as every other. Its agent is `offline` once the operator cannot reach it, or, if it ever
  reported, 60 s after the last report (`probes.offlineAfter`).
- A pull or a distribution becomes a ModelDistribution, the same one for the same wish. It stays:
  delete it when the model is not wanted there any more. `target: all` means servers to come, too.
- A task that is tried again is the annotation `ollamafleet.dev/retry-at` of its ModelDistribution:
  failures from before that moment count no more.
- What is installed is what the server says. One that is reached by a Secret is not asked: of it,
  what ModelDistributions installed is told."""


def page() -> str:
    """The page, as Markdown."""
    described = document()
    lines = [
        "# The fleet API",
        "",
        described["info"]["description"],
        "",
        _BEGIN,
        "",
        "Made from the OpenAPI document by `make generate`.",
        "",
        *table(
            ("Call", "Does"),
            [
                (
                    f"[`{one.method} {one.path}`](#{one.handler})",
                    cell(one.about.partition(". ")[0].removesuffix(".") + "."),
                )
                for one in CALLS
            ],
        ),
        "",
        _RIGHTS,
        "",
        "## Refusals",
        "",
        *table(("Status", "Means"), [(str(code), told) for code, told in REFUSALS.items()]),
        "",
    ]
    for one in CALLS:
        lines += _call(one.handler, described["paths"][one.path][one.method.lower()])
        lines[-1:] = [""]
    lines += ["## Shapes", ""]
    for name, schema in sorted(described["components"]["schemas"].items()):
        lines += [f"### {name} object", "", " ".join(schema.get("description", "").split()), ""]
        lines += [*table(("Field", "Type", "Meaning"), list(_fields(schema))), ""]
    return "\n".join(lines).rstrip() + "\n"


def _call(name: str, operation: Schema) -> list[str]:
    (call,) = (one for one in CALLS if one.handler == name)
    lines = [f"## {name}", "", f"`{call.method} {call.path}`: {operation['description']}", ""]
    if call.parameters:
        rows = [
            (f"`{one.name}`", one.place, _type(dict(one.schema)), one.about)
            for one in call.parameters
        ]
        lines += [*table(("Parameter", "In", "Type", "Meaning"), rows), ""]
    if call.takes is not None:
        lines += [f"Takes {_link(call.takes.__name__)}.", ""]
    answers = []
    for status, answer in call.answers.items():
        shape = _link(answer.shape.__name__) if answer.shape else ""
        answers.append((str(status), answer.about, f"list of {shape}" if answer.many else shape))
    lines += [*table(("Status", "Means", "Shape"), answers), ""]
    refused = ", ".join(str(status) for status in call.statuses)
    return [*lines, f"Refuses with {refused}.", ""]


def _fields(schema: Schema) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", ())
    for name, child in schema["properties"].items():
        optional = "" if name in required else ", may be absent"
        yield f"`{name}`", _type(child) + optional, child.get("description", "")


def _type(schema: Schema) -> str:
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("format") == "date-time":
        return "time"
    kind = {"string": "text", "null": "null"}.get(schema["type"], schema["type"])
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{kind}, {least} to {most}"
    return str(kind)


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()}-object)"
