"""HTTPS: handshakes of a real TLS client, with a certificate that changes."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dev.ollama.certificates import PrivateKey, server_pair
from ollama_fleet.api.tls import Pair, serve, trust
from tests.component.router.conftest import Running, Start
from tests.component.router.conftest import Serve as ServeFixture
from tests.component.router.peers import LAST_CHUNK, STREAM_HEAD, Client, Exchange, chunk

HOST = "chat.example.com"


class Secured:
    """A router's HTTPS port, and the authorities of its certificates."""

    def __init__(self, router: Running, port: int, folder: Path) -> None:
        self.router = router
        self.port = port
        self._folder = folder

    def renew(self, key: PrivateKey | None = None) -> ssl.SSLContext:
        """Another certificate, of another authority; a client's TLS that trusts it alone."""
        pair = Pair(*server_pair(HOST, self._folder, key))
        certificate = self.router.router.certificate
        assert certificate is not None
        certificate.use(serve(pair))
        return trust((self._folder / "ca.pem").read_text())

    async def connect(self, trusted: ssl.SSLContext, name: str = HOST) -> Client:
        return await Client.connect(self.port, ssl=trusted, server_hostname=name)


@pytest.fixture
async def secured(start: Start, serve: ServeFixture, tmp_path: Path) -> Secured:
    router = await start(await serve())
    port = await router.router.listen("127.0.0.1", 0, tls=True)
    return Secured(router, port, tmp_path)


async def test_chats_by_https(secured: Secured) -> None:
    client = await secured.connect(secured.renew())
    for _ in range(2):
        client.ask()
        assert (await client.reply()).body == b"hello"
    session: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
    assert session.version() == "TLSv1.3"
    client.send(b"BAD\r\n\r\n")
    assert (await client.reply()).status == 400
    assert await client.closed() == b""


@pytest.mark.parametrize(
    ("version", "served"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_the_oldest_tls(secured: Secured, version: ssl.TLSVersion, served: bool) -> None:
    trusted = secured.renew()
    trusted.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    trusted.maximum_version = version
    trusted.set_ciphers("DEFAULT:@SECLEVEL=0")
    trusted.set_alpn_protocols(["h2", "http/1.1"])
    if not served:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await secured.connect(trusted)
        return
    client = await secured.connect(trusted)
    session: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
    assert (session.version(), session.selected_alpn_protocol()) == ("TLSv1.2", "http/1.1")


async def test_nobody_is_served_before_there_is_a_certificate(secured: Secured) -> None:
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await secured.connect(trusted)
    await secured.connect(secured.renew())


async def test_plain_http_is_not_served_there(secured: Secured) -> None:
    secured.renew()
    client = await Client.connect(secured.port)
    client.ask()
    assert not (await client.closed()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "kinds",
    [("ec", "ec"), ("rsa", "ec"), ("ec", "rsa")],
    ids=lambda kinds: " then ".join(kinds),
)
async def test_new_connections_take_the_new_certificate(
    secured: Secured, kinds: tuple[str, str]
) -> None:
    first, second = (_key(kind) for kind in kinds)
    old = secured.renew(first)
    open_before = await secured.connect(old)
    new = secured.renew(second)
    with pytest.raises(ssl.SSLCertVerificationError):
        await secured.connect(old)
    client = await secured.connect(new)
    for one in (client, open_before):
        one.ask()
        assert (await one.reply()).status == 200


async def test_a_stream_goes_on_while_the_certificate_changes(
    start: Start, serve: ServeFixture, tmp_path: Path
) -> None:
    more = asyncio.Event()

    async def streamed(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + chunk(b"first\n"))
        await more.wait()
        await exchange.send(chunk(b"x" * 300_000) + LAST_CHUNK)

    router = await start(await serve(streamed))
    port = await router.router.listen("127.0.0.1", 0, tls=True)
    secured = Secured(router, port, tmp_path)
    client = await secured.connect(secured.renew())
    client.ask()
    await client.reply(has_body=False)
    secured.renew()
    more.set()
    assert await client._chunks() == b"first\n" + b"x" * 300_000


async def test_who_says_no_name_is_served_too(secured: Secured) -> None:
    trusted: Any = secured.renew()
    trusted.check_hostname = False
    client = await Client.connect(secured.port, ssl=trusted, server_hostname="")
    client.ask()
    assert (await client.reply()).status == 200


async def test_a_client_that_leaves_during_the_handshake_harms_nobody(secured: Secured) -> None:
    trusted = secured.renew()
    for hello in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x05hello"):
        client = await Client.connect(secured.port)
        client.send(hello)
        client.leave()
    client = await secured.connect(trusted)
    client.ask()
    assert (await client.reply()).status == 200


def _key(kind: str) -> PrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())
