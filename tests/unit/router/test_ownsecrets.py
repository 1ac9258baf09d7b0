"""A router's own Secrets: nobody is served before they are read, and then what was good last."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from dev.ollama.certificates import server_pair
from ollama_fleet.kube.errors import Forbidden, Unavailable
from ollama_fleet.router.framing import Request
from tests.unit.router.test_discovery import World, router, until

AUTH = {"auth": {"keysSecretRef": {"name": "keys"}}}
TLS = {"tls": {"secretName": "cert"}}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


def entry(key: str, more: str = "") -> str:
    return f"{{sha256: {sha256(key.encode()).hexdigest()}{more}}}"


def guarded(world: World) -> bool:
    return world.router.relay.gate is world.router.gate


def known(world: World, key: bytes) -> bool:
    keys = world.router.gate._keys
    return keys is not None and keys.find([(b"x-api-key", key)])[0] is not None


async def test_keys_are_read_and_followed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    secrets = world.watches.secrets
    await world.say("Router", router(AUTH))
    await world.synced()
    await until(lambda: "Secret keys does not exist" in caplog.text)
    assert world.router._not_ready() == "waiting for its clients' keys in Secret keys"
    secrets["keys"] = {"a": entry("one"), "b": entry("two")}
    await until(lambda: not world.router.waiting_for)
    secrets["keys"] = {"b": entry("two"), "c": entry("three")}
    await until(lambda: known(world, b"three"))
    assert not known(world, b"one")
    secrets["keys"] = {"b": entry("two", ", requestsPerMinute: x"), "c": "s3cret"}
    await until(lambda: not known(world, b"three"))
    assert known(world, b"two")
    assert "Secret keys: entry b: requestsPerMinute: " in caplog.text
    secrets["keys"] = Unavailable(0, "", "the API server is away")
    await until(lambda: "is away" in caplog.text)
    secrets["keys"] = Forbidden(403, "", "it is forbidden")
    await until(lambda: "it is forbidden" in caplog.text)
    del secrets["keys"]
    await until(lambda: caplog.text.count("Secret keys does not exist") == 2)
    assert known(world, b"two")
    assert not world.router.waiting_for
    secrets["keys"] = {}
    await until(lambda: not known(world, b"two"))
    for words, times in (("is away", 1), ("is forbidden", 1), ("s3cret", 0)):
        assert caplog.text.count(words) == times


async def test_keys_wanted_while_it_serves_close_it_until_they_are_read(world: World) -> None:
    await world.say("Router", router())
    await world.synced()
    assert not world.router.waiting_for
    await world.say("Router", router(AUTH, 2), "MODIFIED")
    assert world.router.gate.closed
    assert guarded(world)
    assert "keys in Secret keys" in world.router.waiting_for
    world.watches.secrets["keys"] = {"a": entry("one")}
    await until(lambda: not world.router.waiting_for)
    other = {"auth": {"keysSecretRef": {"name": "others"}}}
    await world.say("Router", router(other, 3), "MODIFIED")
    assert known(world, b"one")  # until the others are there
    world.watches.secrets["others"] = {"b": entry("two")}
    await until(lambda: known(world, b"two"))
    assert not known(world, b"one")
    await world.say("Router", router({}, 4), "MODIFIED")
    assert not guarded(world)
    await world.say("Router", router(AUTH, 5), "MODIFIED")
    await until(lambda: known(world, b"one"))
    assert not known(world, b"two")


async def test_a_certificate_is_read_and_followed(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await world.router.listen("127.0.0.1", 0, tls=True)
    certificate = world.router.certificate
    assert certificate is not None
    await world.say("Router", router(TLS))
    await world.synced()
    assert world.router._not_ready() == "waiting for its certificate in Secret cert"
    pem, key = server_pair("localhost", tmp_path)
    world.watches.secrets["cert"] = {"tls.crt": pem, "tls.key": key}
    await until(lambda: certificate.known)
    assert not world.router.waiting_for
    used = certificate._current
    _, other = server_pair("localhost", tmp_path)
    world.watches.secrets["cert"] = {"tls.crt": pem, "tls.key": other}
    await until(lambda: "tls.key is not the key of the certificate in tls.crt" in caplog.text)
    assert certificate._current is used
    pem, key = server_pair("localhost", tmp_path)
    world.watches.secrets["cert"] = {"tls.crt": pem, "tls.key": key}
    await until(lambda: certificate._current is not used)
    assert "PRIVATE" not in caplog.text


def test_a_request_has_no_caller_until_a_gate_says_so() -> None:
    assert not hasattr(Request(b"GET", b"/", 1, []), "caller")
