"""Settings: every mistake gives one line that names the field."""

from pathlib import Path
from typing import Any

import pytest

from ollama_fleet.router.config import ConfigError, load, parse, settings_of

BY_SECRET = {"url": "http://b", "headersSecretRef": {"name": "key"}}
BY_AUTHORITY = {"url": "https://b", "caSecretRef": {"name": "ca"}}


def test_defaults() -> None:
    settings = parse({"backends": [{"url": "http://gpu-box:11434"}]})
    (endpoint,) = settings.backends
    assert (endpoint.name, endpoint.host, endpoint.port) == ("gpu-box:11434", "gpu-box", 11434)
    assert (settings.connect, settings.first_byte, settings.idle) == (2.0, 600.0, 120.0)
    assert settings.body_bytes == 32 * 2**20


def test_a_whole_router_will_do() -> None:
    assert parse({"kind": "Router", "spec": {"retry": {"attempts": 4}}}).attempts == 4


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://box", "http://box:11434"),
        ("http://box:80", "http://box"),
        ("https://box", "https://box"),
        ("https://box:8443/ollama/", "https://box:8443/ollama"),
        ("http://[::1]:1", "http://[::1]:1"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert parse({"backends": [{"url": url}]}).backends[0].url == shown


def test_headers_are_kept_out_of_sight() -> None:
    raw = {"backends": [{"url": "http://b", "headers": {"Authorization": "Bearer s3cret"}}]}
    (endpoint,) = parse(raw).backends
    assert endpoint.headers == ((b"authorization", b"Bearer s3cret"),)
    assert "s3cret" not in repr(endpoint)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ([], "write the fields"),
        ({"backend": []}, "backend:"),
        ({"backends": [{"url": "http://b", "wieght": 1}]}, "backends.0.wieght:"),
        ({"timeouts": {"first_byte": "1s"}}, "timeouts.first_byte:"),
        ({"backends": [{}]}, "backends.0.url:"),
        ({"backends": [{"url": "box:11434"}]}, "backends.0.url:"),
        ({"backends": [{"url": "http://b:99999"}]}, "backends.0.url:"),
        ({"backends": [{"url": "http://b"}, {"url": "http://b:11434"}]}, "backends.1.url:"),
        ({"backends": [{"url": "http://b", "weight": -1}]}, "backends.0.weight:"),
        ({"backends": [{"url": "http://b", "headers": {"a b": "c"}}]}, "backends.0.headers:"),
        ({"backends": [{"url": "http://b", "headers": {"Host": "c"}}]}, "backends.0.headers:"),
        ({"backends": [{"url": "http://b", "headers": {"x": "c\r\nd"}}]}, "backends.0.headers.x:"),
        ({"backends": [BY_SECRET]}, "backends.0.headersSecretRef:"),
        (
            {"backends": [{"url": "http://a"}, BY_AUTHORITY]},
            "backends.1.caSecretRef: a file has no Secrets beside it; set SSL_CERT_FILE",
        ),
        ({"retry": {"attempts": 0}}, "retry.attempts:"),
        ({"timeouts": {"connect": "2 seconds"}}, "timeouts.connect:"),
        ({"limits": {"bodyBytes": "lots"}}, "limits.bodyBytes:"),
        ({"apis": ["gRPC"]}, "apis.0:"),
        ({"strategy": {"type": "Random"}}, "strategy.type:"),
        ({"clientOptions": {"loading": "Drop"}}, "clientOptions.loading:"),
        ({"models": [{"name": "a"}]}, "models.0.targets:"),
        (
            {"models": [{"name": "a", "targets": [{"model": "x:cloud"}]}]},
            "models.0.targets.0.model:",
        ),
        (
            {
                "models": [
                    {"name": "a", "targets": [{"model": "b"}]},
                    {"name": "b", "targets": [{"model": "a"}]},
                ]
            },
            "models.0: 'b' behind 'a' is itself a name",
        ),
        (
            {"models": [{"name": "a", "targets": [{"model": "b"}], "defaults": {"num_ctx": 1}}]},
            "models.0.defaults.num_ctx: there is no such field; how models are loaded is the",
        ),
        (
            {"models": [{"name": "a", "targets": [{"model": "b"}], "defaults": {"top_k": 1}}]},
            "models.0.defaults.top_k: there is no such field; not every API has its like: write "
            "temperature, top_p, num_predict, seed, stop",
        ),
        (
            {"models": [{"name": "a", "targets": [{"model": "b"}], "defaults": {"top_p": 2}}]},
            "models.0.defaults.top_p:",
        ),
    ],
)
def test_mistakes(raw: Any, field: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        parse(raw)
    assert str(wrong.value).startswith(field)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"auth": {"keysSecretRef": {"name": "k"}}}, "auth.keysSecretRef: .* start with --keys"),
        ({"tls": {"secretName": "t"}}, "tls.secretName: .* start with --tls-cert FILE --tls-key"),
    ],
)
def test_a_file_has_no_secrets(raw: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(raw)
    settings = settings_of(raw)
    assert (settings.keys_secret, settings.tls_secret) in [("k", None), (None, "t")]


@pytest.mark.parametrize(
    ("raw", "guarded", "anonymous"),
    [
        ({}, False, None),
        ({"auth": {"anonymous": True}}, False, True),
        ({"auth": {"keysSecretRef": {"name": "k"}}}, True, False),
        ({"auth": {"keysSecretRef": {"name": "k"}, "anonymous": True}}, True, True),
        ({"auth": {}}, True, False),
    ],
)
def test_who_may_ask(raw: Any, guarded: bool, anonymous: bool | None) -> None:
    settings = settings_of(raw)
    assert (settings.guarded, settings.anonymous) == (guarded, anonymous)


def test_names_for_models() -> None:
    fast = {"name": "Fast", "targets": [{"model": "b"}], "defaults": {"top_p": 0.5}}
    settings = parse({"models": [fast], "clientOptions": {"keepAlive": "Allow"}})
    alias = settings.aliases["fast:latest"]
    assert (alias.name, alias.defaults) == ("Fast", {"top_p": 0.5})
    assert settings.policy == ("Strip", "Allow")


def test_the_queue() -> None:
    default = parse({})
    assert (default.queue_size, default.queue_timeout, default.per_server) == (512, 60.0, 0)
    given = parse({"queue": {"size": 0, "timeout": "1m30s", "perServer": 8}})
    assert (given.queue_size, given.queue_timeout, given.per_server) == (0, 90.0, 8)


@pytest.mark.parametrize(
    ("text", "told"),
    [("a: [", "is not YAML at line"), ("\x00", "is not YAML"), ("backend: 1", "backend: there is")],
)
def test_files(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as wrong:
        load(path)
    assert str(wrong.value).startswith(f"{path}: ")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "router.yaml")
