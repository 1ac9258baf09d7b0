"""Which paths exist for tenants."""

import pytest

from ollama_fleet.router.errors import Api, Refusal, api_of, envelope
from ollama_fleet.router.names import is_cloud, is_host_qualified, lookup_key
from ollama_fleet.router.routes import Action, route


@pytest.mark.parametrize(
    ("method", "target", "action", "path"),
    [
        (b"POST", b"/api/chat", Action.RELAY, b"/api/chat"),
        (b"POST", b"/api/chat?x=1", Action.RELAY, b"/api/chat"),
        (b"POST", b"/%61pi/chat", Action.RELAY, b"/api/chat"),
        (b"POST", b"/api%2Fchat", Action.RELAY, b"/api/chat"),
        (b"POST", b"/v1/messages?beta=true", Action.RELAY, b"/v1/messages"),
        (b"GET", b"/", Action.RUNNING, b"/"),
        (b"HEAD", b"/", Action.RUNNING, b"/"),
        (b"HEAD", b"/api/tags", Action.TAGS, b"/api/tags"),
        (b"HEAD", b"/api/version", Action.VERSION, b"/api/version"),
        (b"POST", b"/api%2fshow", Action.RELAY, b"/api/show"),
        (b"GET", b"/%61pi/tags", Action.TAGS, b"/api/tags"),
        (b"GET", b"/v1/models", Action.MODELS, b"/v1/models"),
        (b"GET", b"/api/agents", Action.FLEET, b"/api/agents"),
        (b"GET", b"/api/tasks?limit=1", Action.FLEET, b"/api/tasks?limit=1"),
        (b"DELETE", b"/api/agents/llm.a-0", Action.FLEET, b"/api/agents/llm.a-0"),
        (b"POST", b"/api/models/distribute", Action.FLEET, b"/api/models/distribute"),
    ],
)
def test_served(method: bytes, target: bytes, action: Action, path: bytes) -> None:
    found = route(method, target)
    assert (found.action, found.path) == (action, path)


def test_a_model_in_the_path() -> None:
    assert route(b"GET", b"/v1/models/team%2Fx:1b").argument == "team/x:1b"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        (b"GET", b"/api/chat", 405),
        (b"PUT", b"/api/agents", 405),
        (b"GET", b"/api/agents/../../metrics", 404),
        (b"GET", b"/api/agents/%2e%2e/tags", 404),
        (b"GET", b"/api/agentsx", 404),
        (b"GET", b"/api/events", 404),
        (b"DELETE", b"/api/tags", 405),
        (b"POST", b"/v1/models/x", 405),
        (b"POST", b"/api/pull", 403),
        (b"POST", b"/%61pi/pull", 403),
        (b"DELETE", b"/api/delete", 403),
        (b"POST", b"/api/create", 403),
        (b"POST", b"/api/copy", 403),
        (b"POST", b"/api/push", 403),
        (b"GET", b"/api/ps", 403),
        (b"HEAD", b"/api/blobs/sha256:x", 404),
        (b"POST", b"/api/me", 404),
        (b"POST", b"/api/signout", 404),
        (b"GET", b"/api/status", 404),
        (b"GET", b"/metrics", 404),
        (b"POST", b"//api/chat", 404),
        (b"POST", b"/api/chat/", 404),
        (b"GET", b"//api/tags", 404),
        (b"GET", b"/api/tags/", 404),
        (b"GET", b"/api//tags", 404),
        (b"GET", b"/api/x/../tags", 404),
        (b"GET", b"/api/x/%2e%2e/tags", 404),
        (b"GET", b"/api/x%2f..%2ftags", 404),
        (b"GET", b"/api/tags%00", 404),
        (b"GET", b"/api/tags%20", 404),
        (b"GET", b"/api/tags;x", 404),
        (b"GET", b"/api\\tags", 404),
        (b"GET", b"/api%5ctags", 404),
        (b"POST", b"/api%2fpull", 403),
        (b"DELETE", b"/%61%70%69/delete", 403),
        (b"POST", b"/api/chat/../pull", 404),
        (b"GET", b"/v1/models%2f", 404),
        (b"POST", b"/api/./chat", 404),
        (b"POST", b"/x/../api/chat", 404),
        (b"POST", b"/API/chat", 404),
        (b"POST", b"/api/chat%00", 404),
        (b"POST", b"/%2561pi/chat", 404),
        (b"POST", b"/v1/messages/count_tokens", 404),
        (b"GET", b"/v1/models/", 404),
        (b"GET", b"/%ff", 400),
    ],
)
def test_refused(method: bytes, target: bytes, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        route(method, target)
    assert refused.value.status == status


def test_a_pull_is_told_who_installs() -> None:
    with pytest.raises(Refusal, match="ModelDistribution"):
        route(b"POST", b"/api/pull")


@pytest.mark.parametrize(
    ("path", "api", "body"),
    [
        ("/api/nope", Api.OLLAMA, b'{"error":"no"}'),
        (
            "/v1/nope",
            Api.OPENAI,
            b'{"error":{"message":"no","type":"not_found_error","param":null,"code":null}}',
        ),
        (
            "/v1/messages/x",
            Api.ANTHROPIC,
            b'{"type":"error","error":{"type":"not_found_error","message":"no"}}',
        ),
    ],
)
def test_envelopes(path: str, api: Api, body: bytes) -> None:
    assert api_of(path) is api
    assert envelope(api, 404, "no") == body


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("llama3.1", "llama3.1:latest"),
        ("LLAMA3.1:8B", "llama3.1:8b"),
        ("library/llama3.1", "llama3.1"),
        ("registry.ollama.ai/library/llama3.1:8b", "llama3.1:8b"),
    ],
)
def test_one_model_two_spellings(one: str, other: str) -> None:
    assert lookup_key(one) == lookup_key(other)


@pytest.mark.parametrize(
    ("name", "cloud", "host"),
    [
        ("gpt-oss:20b", False, False),
        ("team/x:1b", False, False),
        ("registry.ollama.ai/library/x", False, False),
        ("gpt-oss:120b-cloud", True, False),
        ("gpt-oss:cloud", True, False),
        ("GPT-OSS:Cloud", True, False),
        ("x-cloud", True, False),
        ("cloudy:1b", False, False),
        ("evil.host/x", False, True),
        ("evil.host/ns/x:1b", False, True),
        ("localhost:5000/ns/x", False, True),
        ("https://evil.host/ns/x", False, True),
    ],
)
def test_names(name: str, cloud: bool, host: bool) -> None:
    assert (is_cloud(name), is_host_qualified(name)) == (cloud, host)
