"""How names tell a mirror which registry is meant."""

import pytest

from ollama_fleet.api.mirror import asked_of_mirror, at_mirror
from ollama_fleet.api.names import InvalidModelName, ModelName

MIRROR = "mirror.models.svc:5000"


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("llama3.2:1b", "library"),
        ("team/model", "team"),
        ("hf.co/team/model:q4", "hf_co___team"),
        ("registry.lan:5000/library/m:1", "registry_lan__5000___library"),
        ("a-b.lan/_team/m", "a-b_lan____team"),
        ("10.0.0.1:80/a_b/m", "10_0_0_1__80___a_b"),
        ("a___b/m", "registry_ollama_ai___a___b"),
    ],
)
def test_a_name_survives_the_way_through_a_mirror(name: str, namespace: str) -> None:
    meant = ModelName.parse(name)
    asked = at_mirror(meant, MIRROR)
    assert (asked.host, asked.namespace) == (MIRROR, namespace)
    assert ModelName.parse(asked.qualified) == asked
    assert asked_of_mirror(asked.namespace, asked.model, asked.tag) == meant


@pytest.mark.parametrize("host", ["my_registry:5000", "a..b", "x" * 78])
def test_what_cannot_be_written_is_refused(host: str) -> None:
    with pytest.raises(InvalidModelName):
        at_mirror(ModelName.parse(f"{host}/team/model"), MIRROR)


@pytest.mark.parametrize("namespace", ["___team", "hf_co___", "a b", "_co___team"])
def test_what_is_no_name_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidModelName):
        asked_of_mirror(namespace, "model", "latest")
