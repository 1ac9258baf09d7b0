"""Specifications that an older or weaker CRD let through: planned, or refused as what they are.

What `ValidationError` says becomes the resource's status; anything else would be a defect.
"""
# ruff: noqa: PT017 - what is hostile may also be read

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ollama_fleet.plan import distribution, ollamanode, router
from ollama_fleet.plan.demands import demand_of
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.stores import Neighbour, store_of
from ollama_fleet.plan.tasks import Seen
from tests.hostile import changed, hostile, values
from tests.unit.plan.objects import NOW, machine, pod, probe, resource, server

TABLE = yaml.safe_load((Path(__file__).parents[2] / "cluster" / "specs.yaml").read_text())
BAD = {
    kind: [row["spec"] for row in rows.values() if "spec" in row]
    for kind, rows in TABLE["bad"].items()
}


NOTHING = Seen({}, {}, {})


def specs(kind: str) -> st.SearchStrategy[Any]:
    """Of the table that the API server is asked about, the good and the bad ones, and these with
    something changed."""
    known = [*TABLE["good"][kind].values(), *BAD[kind]]
    return st.sampled_from(known).flatmap(lambda spec: st.just(spec) | changed(spec)) | values


@hostile
@given(specs("OllamaNode"), specs("OllamaNode"))
def test_ollamanodes(spec: Any, neighbour: Any) -> None:
    node = resource("OllamaNode", "a", spec)
    other = resource("OllamaNode", "b", neighbour)
    observed = Observed(
        workload=None,
        pods=(pod("a-0"), pod("a-1", ready=False, on=None)),
        kubernetes_nodes={"gpu-a": machine("gpu-a")},
        probes={"http://10.0.0.1:11434": probe(m="sha256:x")},
        neighbours=(Neighbour("llm", "b", other),),
    )
    try:
        plan = ollamanode.plan_ollamanode(node, observed, NOW)
        ollamanode.plan_ollamanode({**node, "status": plan.status}, observed, NOW)
    except ValidationError as error:
        assert error.errors()


@hostile
@given(specs("OllamaNode"))
def test_where_models_are_kept(spec: Any) -> None:
    store_of(resource("OllamaNode", "a", spec))


@hostile
@given(specs("ModelDistribution"), specs("ModelDistribution"))
def test_distributions(spec: Any, other: Any) -> None:
    wanted = resource("ModelDistribution", "a", spec)
    around = distribution.Around(
        (demand_of(wanted), demand_of(resource("ModelDistribution", "b", other))), frozenset(), ()
    )
    try:
        for servers in ([], [server(), server("a-1", memory=None)]):
            made = distribution.plan_distribution(wanted, servers, True, NOTHING, NOW, around)
            again = {**wanted, "status": made.plan.status}
            distribution.plan_distribution(again, servers, True, NOTHING, NOW, around)
    except ValidationError as error:
        assert error.errors()


@hostile
@given(specs("Router"), specs("OllamaNode"))
def test_routers(spec: Any, node: Any) -> None:
    wanted = resource("Router", "a", spec)
    observed = router.Observed(
        deployment=None,
        service=None,
        pods=(),
        servers=(server(),),
        ollamanodes=(resource("OllamaNode", "b", node),),
    )
    program = router.Program("image", "role", "role", "http://console")
    try:
        plan = router.plan_router(wanted, observed, program, NOW)
        router.plan_router({**wanted, "status": plan.status}, observed, program, NOW)
        router.backend_secrets(spec)
    except ValidationError as error:
        assert error.errors()
