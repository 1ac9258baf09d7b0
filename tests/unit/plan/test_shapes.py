"""Who is asked for a model that a registry does not describe."""

from dataclasses import replace

from ollama_fleet.plan.shapes import Holder, holders
from tests.unit.plan.objects import DIGEST, OTHER, pod, probe, server

MODEL = "llama3.2:1b"


def test_who_has_a_model_is_asked_by_what_it_has() -> None:
    one = server("a-0", pod=pod("a-0"), probe=probe(llama3_2__1b=DIGEST, mine__1b=OTHER))
    two = server("b-0", pod=pod("b-0"), probe=probe(LLAMA3_2__1B=DIGEST))
    older = server("c-0", pod=pod("c-0"), probe=probe(llama3_2__1b=OTHER))
    assert holders([one, two, older], {MODEL}) == {
        DIGEST: [
            Holder("a", "http://a-0:11434", MODEL),
            Holder("a", "http://b-0:11434", "LLAMA3.2:1B"),
        ],
        OTHER: [Holder("a", "http://c-0:11434", MODEL)],
    }


def test_only_those_are_asked_that_would_answer() -> None:
    there = server(pod=pod("a-0"), probe=probe(llama3_2__1b=DIGEST))
    elsewhere = replace(there, pod=None, external=True)
    for one in (there, replace(there, state="Unfit"), replace(there, state="Draining"), elsewhere):
        assert list(holders([one], {MODEL})) == [DIGEST]
    for one in (
        replace(there, state="Offline"),
        replace(there, url=None),
        replace(there, pod=pod("a-0", ready=False)),
        replace(there, probe=replace(there.probe, error="no answer")),
        replace(elsewhere, state="Offline"),
    ):
        assert holders([one], {MODEL}) == {}
