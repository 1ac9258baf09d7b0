"""Whatever is asked, the fleet API answers as its OpenAPI document says."""

import asyncio
from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dev.cluster import Cluster
from ollama_fleet.console.calls import CALLS
from ollama_fleet.kube import Kube
from tests.component.kube import consoles
from tests.component.kube.conftest import ollama_node

EXAMPLES = 15
"""For each call and each way of making them up: as the document says, or wrong in one place."""
CHECKS = (status_code_conformance, content_type_conformance, response_schema_conformance)


async def test_answers_are_as_described(
    kube: Kube, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    await consoles.install(kube)
    token = await consoles.token(kube, cluster, namespace, "editor", tmp_path)
    await consoles.bind(kube, "ollama-fleet-editor", "editor", namespace, namespace)
    made = await kube.apply(ollama_node("a", namespace, replicas=1))
    server = {"name": "a-0", "state": "Ready", "address": "http://127.0.0.1:1", "diskFree": "1Gi"}
    await kube.apply_status(made | {"status": {"servers": [server]}})
    # no registry answers: each model would be asked for on the Internet
    arguments = (f"--register-in={namespace}", "--mirror=127.0.0.1:1")
    async with consoles.console(cluster, tmp_path, *arguments) as (url, log):
        async with consoles.person(url, token) as client:
            for path in ("/", "/api", "/api/agents/", "/docs", "/api/events/x"):
                assert consoles.told(await client.get(path))[0] == 404
        statuses = await asyncio.to_thread(explore, url, token, f"{namespace}.a-0")
        assert "Traceback" not in log.read_text()
    # both what is right and what is wrong was asked
    assert {200, 400, 404} <= statuses, statuses


def explore(url: str, token: str, agent: str) -> set[int]:
    """Ask for all there is; the statuses that were answered."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    statuses: set[int] = set()
    for call in CALLS:
        if call.handler == "events":
            continue  # it has no end
        operation = schema[call.path][call.method]
        for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(st.data())
            def ask(data: st.DataObject) -> None:
                case = data.draw(operation.as_strategy(generation_mode=mode))  # noqa: B023
                if "id" in case.path_parameters and data.draw(st.booleans()):
                    case.path_parameters["id"] = agent
                headers = {"Authorization": f"Bearer {token}"}
                answer = case.call(base_url=url, headers=headers)
                case.validate_response(answer, checks=list(CHECKS))
                statuses.add(answer.status_code)
                assert answer.status_code < 500 or answer.status_code in (503, 507)

            ask()
    return statuses
