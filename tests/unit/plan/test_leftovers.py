"""Second names of models."""

import pytest

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.plan.leftovers import leftovers
from ollama_fleet.plan.servers import Installed, Probe
from tests.unit.plan.objects import DIGEST, OTHER, server

MIRROR = Mirror("mirror:5000", frozenset({"registry.ollama.ai"}))
SECOND = "mirror:5000/library/llama3.1:8b"


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ({SECOND: DIGEST, "llama3.1:8b": DIGEST}, [SECOND]),
        ({SECOND: DIGEST, "other.lan/library/llama3.1:8b": DIGEST}, [SECOND]),
        ({SECOND: DIGEST}, []),
        ({SECOND: DIGEST, "llama3.1:8b": OTHER}, []),
        ({SECOND: DIGEST, "copy:8b": DIGEST}, []),
        ({"llama3.1:8b": DIGEST, "hf.co/library/llama3.1:8b": DIGEST}, []),
        ({"mirror:5000/a/b/c": DIGEST, "llama3.1:8b": DIGEST}, []),
    ],
)
def test_a_model_keeps_its_own_name(installed: dict[str, str], found: list[str]) -> None:
    probe = Probe(installed={name: Installed(digest, 1) for name, digest in installed.items()})
    one = server(probe=probe)
    assert [each.name for each in leftovers([one], MIRROR, ())] == found
    assert not leftovers([one], MIRROR, {one.name})
    assert not leftovers([one], None, ())
    assert not leftovers([server(probe=probe, state="Offline")], MIRROR, ())
