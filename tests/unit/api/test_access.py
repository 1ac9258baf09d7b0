"""Secrets become headers and authorities; what is wrong is said, and no value shown."""

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dev.ollama.certificates import server_context, server_pair
from ollama_fleet.api.access import (
    Access,
    SecretError,
    authority_in,
    certificate_in,
    header_fault,
    headers_in,
)
from ollama_fleet.api.tls import Pair, trust
from ollama_fleet.router.fields import HOP_BY_HOP


def secret(**entries: str | bytes) -> dict[str, Any]:
    raw = {key: one if isinstance(one, bytes) else one.encode() for key, one in entries.items()}
    return {"data": {key: base64.b64encode(one).decode() for key, one in raw.items()}}


def test_entries_are_headers_and_a_last_line_end_is_no_part_of_them() -> None:
    found = headers_in(secret(Authorization="Bearer s3cret\n", **{"X-Team": "ml"}), "box")
    assert found == (("Authorization", "Bearer s3cret"), ("X-Team", "ml"))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({}, "Secret box is empty"),
        ({"tls.key": "s3cret"}, "'tls.key' is not a header name"),
        ({"a_b": "s3cret"}, "'a_b' is not a header name"),
        ({"Host": "s3cret"}, "Host is set by the connection"),
        ({"Transfer-Encoding": "s3cret"}, "Transfer-Encoding is set by the connection"),
        ({"X": "s3cret\r\nX: y"}, "the value of X holds"),
        ({"X": b"s3cret\xff"}, "the value of X holds"),
        ({"X": "s3cret\0"}, "the value of X holds"),
        ({"X": "s3cret é"}, "the value of X holds"),
        ({"X-a": "s3cret", "x-A": "s3cret"}, "x-A is there twice"),
    ],
)
def test_what_is_no_header(entries: Any, words: str) -> None:
    with pytest.raises(SecretError, match=words) as wrong:
        headers_in(secret(**entries), "box")
    assert wrong.value.reason == "InvalidSecret"
    assert "s3cret" not in str(wrong.value)


def test_no_field_of_the_connection_is_taken() -> None:
    for name in (*HOP_BY_HOP, b"host"):
        assert header_fault(name.decode().title(), "x") is not None


def test_an_authority_is_trusted_and_no_other(tmp_path: Path) -> None:
    server_context("localhost", tmp_path)
    pem = (tmp_path / "ca.pem").read_text()
    assert authority_in(secret(**{"ca.crt": pem}), "ca") == pem
    (only,) = trust(pem).get_ca_certs()
    assert only["issuer"] == only["subject"]
    assert trust(pem).check_hostname
    assert trust(pem).verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"tls.crt": "x"}, "Secret ca has no ca.crt"),
        ({"ca.crt": ""}, "ca.crt is no certificate"),
        ({"ca.crt": "hello"}, "ca.crt is no certificate"),
        ({"ca.crt": b"\x30\x82\xff"}, "ca.crt is no certificate"),
        ({"ca.crt": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}, "is no cert"),
        ({"ca.crt": "-----BEGIN CERTIFICATE-----\né"}, "ca.crt is no certificate"),
    ],
)
def test_what_is_no_authority(entries: Any, words: str) -> None:
    with pytest.raises(SecretError, match=words) as wrong:
        authority_in(secret(**entries), "ca")
    assert wrong.value.reason == "InvalidSecret"


def test_a_certificate_and_its_key(tmp_path: Path) -> None:
    certificate, key = server_pair("localhost", tmp_path)
    chain = certificate + (tmp_path / "ca.pem").read_text()
    assert certificate_in(secret(**{"tls.crt": chain, "tls.key": key}), "x") == Pair(chain, key)
    assert "PRIVATE" not in repr(Pair(chain, key))


def test_what_is_no_certificate_and_its_key(tmp_path: Path) -> None:
    certificate, key = server_pair("localhost", tmp_path)
    authority = (tmp_path / "ca.pem").read_text()
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"s3cret"),
    )
    _, other = server_pair("localhost", tmp_path)
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    for crt, private, words in (
        ("", key, "has no certificate under tls.crt: put it there as PEM"),
        (certificate, "hello", "has no private key under tls.key: put it there as PEM"),
        (key, certificate, "has no certificate under tls.crt"),
        (certificate, other, "tls.key is not the key of the certificate in tls.crt"),
        (authority + certificate, key, "the server's own certificate first"),
        (certificate, locked, "its key without a password"),
        (broken, key, "tls.crt and tls.key cannot be used"),
    ):
        with pytest.raises(SecretError, match=words) as wrong:
            certificate_in(secret(**{"tls.crt": crt, "tls.key": private}), "x")
        assert wrong.value.reason == "InvalidSecret"
        assert "PRIVATE" not in str(wrong.value)


def test_a_server_that_repeats_what_it_was_shown_is_not_repeated() -> None:
    access = Access((("Authorization", "Bearer s3cret-key"), ("X-Team", "ml")), "PEM")
    assert access.hide("no Bearer s3cret-key; s3cret-key of ml") == "no [hidden]; [hidden] of ml"
    assert "s3cret" not in repr(access)
    assert "PEM" not in repr(access)
