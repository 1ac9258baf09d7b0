"""Asks for all there is in the OpenAPI document, and holds the answers against it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ollama_fleet.console.calls import CALLS

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BROKEN = frozenset((503, 507))
"""What of 5xx is documented."""
MODEL = "llama3.2:1b"
"""One that is on offer, so that no registry has to answer."""
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)

BEGIN = ("register", "register", "health", "pull", "nodes", "distributions")
"""What a walk begins with, so that there is something to ask for."""

Seen = Counter[tuple[str, int]]
"""How often a call (by its operationId) was answered with a status."""


class Explorer:
    """Makes calls with a token; AssertionError where an answer is not as the document says."""

    def __init__(self, url: str, token: str) -> None:
        self.seen: Seen = Counter()
        self._url = url
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Authorization"] = f"Bearer {token}"
        document = schemathesis.openapi.from_url(f"{url}/openapi.json")
        self._cases: dict[tuple[str, GenerationMode], st.SearchStrategy[Case[Any]]] = {
            (one.handler, mode): document[one.path][one.method].as_strategy(generation_mode=mode)
            for one in CALLS
            # what has no end cannot be compared
            if not any(answer.stream for answer in one.answers.values())
            for mode in MODES
        }

    def each(self, examples: int, ids: Sequence[str]) -> None:
        """Every call alone, right, and wrong in one place, so many times; ``ids`` are of things
        there are."""
        for cases in self._cases.values():

            @_often(examples)
            @given(case=cases, one=st.sampled_from((None, *ids)))
            def ask(case: Case[Any], one: str | None) -> None:
                if one is not None and "id" in case.path_parameters:
                    case.path_parameters["id"] = one
                self._ask(case)

            ask()

    def walk(self, examples: int, ids: Sequence[str], steps: int = 12) -> None:
        """Calls after each other that ask for what others told of, beginning with agents of these
        ``ids``: what was made is there, what was removed is not."""
        names = sorted({name for name, _ in self._cases})
        harmless = [name for name in names if name != "remove"]

        @_often(examples)
        @given(st.data(), st.randoms(use_true_random=True))
        def ask(data: st.DataObject, chance: Random) -> None:
            known: dict[str, list[str]] = defaultdict(list, agent=list(ids))
            gone: set[str] = set()
            begun = [(name, MODES[0], 1) for name in (*BEGIN, *harmless)]
            begun.append(("models", MODES[0], 0))
            later = zip(
                chance.choices(names, k=steps),
                chance.choices(MODES, (4, 1), k=steps),
                chance.choices((0, 1, 2, 3), (1, 4, 1, 1), k=steps),
                strict=True,
            )
            ended = [(name, MODES[0], 1) for name in ("agent", "remove", "agent")]
            for name, mode, place in (*begun, *later, *ended):
                case = data.draw(self._cases[name, mode])
                asked = _of_what_is_known(case, known, place)
                answer = self._ask(case)
                if asked and answer.status_code == 204 and name == "remove":
                    gone.add(asked)
                elif name == "register" and answer.status_code in (200, 201):
                    gone.discard(answer.json()["agent_id"])
                elif asked and name == "agent" and answer.status_code in (200, 404):
                    assert (answer.status_code == 404) == (asked in gone), f"{asked}: {answer.text}"
                for kind, one in _told(case, answer):
                    known[kind].append(one)

        ask()

    def _ask(self, case: Case[Any]) -> Response:
        answer = case.call(base_url=self._url, session=self._http)
        checks = [*CHECKS, negative_data_rejection] if _body_is_wrong(case) else CHECKS
        case.validate_response(answer, checks=checks)
        assert answer.status_code < 500 or answer.status_code in BROKEN, answer.text
        self.seen[case.operation.definition.raw["operationId"], answer.status_code] += 1
        return answer


def _of_what_is_known(case: Case[Any], known: dict[str, list[str]], place: int) -> str | None:
    """Have a call ask for something there is; its id, where the call is of one in its path."""
    agents = known["agent"]
    there: dict[str, Any] = {
        "agent_id": agents[-place % len(agents)],
        "agent_ids": agents[-2:],
        "model": MODEL,
        "model_name": MODEL,
    }
    if place:
        case.query.pop("namespace", None)  # whoever asks has rights in one alone
        case.query.update({name: there[name] for name in there if name in case.query})
        if isinstance(case.body, dict) and not _body_is_wrong(case):
            case.body.update({name: there[name] for name in there if name in case.body})
    ids = known[case.path.split("/")[2].removesuffix("s")]
    if "id" not in case.path_parameters or not ids:
        return None
    case.path_parameters["id"] = ids[-place % len(ids)]
    return ids[-place % len(ids)]


def _told(case: Case[Any], answer: Response) -> Iterator[tuple[str, str]]:
    """The ids in an answer, by what they are of."""
    told: Any = answer.json() if answer.content and answer.status_code < 300 else None
    if case.path in ("/api/nodes", "/api/distributions") and isinstance(told, list):
        for one in told:
            yield case.path.split("/")[2].removesuffix("s"), one["id"]
    if not isinstance(told, dict):
        return
    if "agent_id" in told and "status" in told and "id" not in told:
        yield "agent", told["agent_id"]
    for one in (*told.get("task_ids", ()), told.get("task_id")):
        if one:
            yield "task", one


def _body_is_wrong(case: Case[Any]) -> bool:
    """Parameters of the query that nobody knows are left alone, as most servers do."""
    body = case.meta.components.get(ParameterLocation.BODY) if case.meta else None
    return body is not None and body.mode is GenerationMode.NEGATIVE


def _often(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
