"""The words in which runs under fire are compared."""

import pytest

from tests.faults.calls import call_of, plain_name
from tests.faults.ledger import difference
from tests.faults.perturbations import sample
from tests.faults.run import Record, verdict


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("PATCH", "/apis/apps/v1/namespaces/llm/statefulsets/a", "", "apply StatefulSet a"),
        (
            "PATCH",
            "/apis/ollamafleet.dev/v1alpha1/namespaces/llm/ollamanodes/a/status",
            "",
            "apply OllamaNode a status",
        ),
        (
            "POST",
            "/apis/events.k8s.io/v1/namespaces/llm/events",
            '{"reason": "Ready", "metadata": {"name": "a.0123456789abcdef"}}',
            "create Event Ready",
        ),
        ("DELETE", "/api/v1/namespaces/llm/pods/a-0", "{}", "delete Pod a-0"),
        ("GET", "/api/v1/nodes", "", "read Node"),
        ("GET", "/version", "", "read /version"),
    ],
)
def test_a_call_reads_the_same_in_every_run(method: str, path: str, body: str, said: str) -> None:
    assert str(call_of(method, path, {}, {}, body.encode())) == said


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("chat-router-7d9c8b5f6d-x2x4z", "chat-router"),
        ("chat-router-bc8767c-jvlt2", "chat-router"),
        ("gpu-large-x2x4z", "gpu-large"),
        ("a-x2x4z", "a"),
        ("a-0", "a-0"),
        ("chat-router", "chat-router"),
        ("chat-router-secrets", "chat-router-secrets"),
    ],
)
def test_what_kubernetes_made_up_is_left_out_of_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_a_sample_is_spread_evenly() -> None:
    assert sample(range(10), 4) == [0, 3, 6, 9]
    assert sample(range(10), 1) == [0]
    assert sample(range(3), 5) == sample(range(3), None) == [0, 1, 2]


def test_a_difference_says_where_it_is() -> None:
    wanted = {"Pod a": [{"ready": True}], "same": 1}
    found = {"Pod a": [{"ready": False}], "same": 1}
    assert difference(wanted, found) == ["/Pod a[0]/ready: True was wanted, False is there"]


def test_what_was_lost_or_duplicated_is_counted() -> None:
    clean, other = Record(), Record()
    clean.counts.update({"added Pod a-0": 1, "added Service a": 1})
    other.counts.update({"added Pod a-0": 2})
    found = verdict(clean, other)
    assert found.lost == ["added Service a: 0 instead of 1"]
    assert found.duplicated == ["added Pod a-0: 2 instead of 1"]
    assert verdict(clean, clean).duplicated == []
