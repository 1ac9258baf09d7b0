"""The program with keys and a certificate out of files, which change while it serves."""

import asyncio
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
import yaml

from dev.ollama.certificates import server_pair
from ollama_fleet.api.tls import trust
from tests.component.router.conftest import Serve
from tests.component.router.peers import CHAT, eventually
from tests.component.router.test_program import program


def entry(key: str) -> dict[str, str]:
    return {"sha256": sha256(key.encode()).hexdigest()}


async def status(url: str, key: str, folder: Path) -> int:
    trusted = trust((folder / "ca.pem").read_text())
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(verify=trusted, trust_env=False) as client:
        try:
            return (await client.post(f"{url}/api/chat", content=CHAT, headers=headers)).status_code
        except httpx2.ConnectError:
            return 0


async def test_keys_and_certificate_are_followed(serve: Serve, tmp_path: Path) -> None:
    keys, certificate, private = (tmp_path / name for name in ("keys.yaml", "crt.pem", "key.pem"))

    def renew() -> None:
        for path, text in zip(
            (certificate, private), server_pair("localhost", tmp_path), strict=True
        ):
            path.write_text(text)

    keys.write_text(yaml.safe_dump({"a": entry("one")}))
    renew()
    given = ["--keys", str(keys), "--tls-cert", str(certificate), "--tls-key", str(private)]
    backend = await serve()
    async with program(tmp_path, [backend.url], *given) as running:
        url = running.url.replace("http://127.0.0.1", "https://localhost")
        assert [await status(url, key, tmp_path) for key in ("one", "two")] == [200, 401]
        keys.write_text(yaml.safe_dump({"b": entry("two"), "c": "s3cret"}))
        renew()
        async with asyncio.timeout(10):
            while await status(url, "one", tmp_path) != 401:
                pass
        assert await status(url, "two", tmp_path) == 200
        keys.write_text("- two")
        private.write_text("nothing")
        await eventually(lambda: "write an entry for each client" in running.log)
        assert await status(url, "two", tmp_path) == 200
        assert "entry c: not a mapping" in running.log
        assert "s3cret" not in running.log


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        (("--keys", "keys"), "", "keys: cannot be read: No such file"),
        (("--keys", "keys"), "a: b", "keys: entry a: not a mapping: write {sha256: …}"),
        (("--keys", "keys"), "[", "keys: is not YAML"),
        (("--tls-cert", "keys", "--tls-key", "keys"), "a: b", "keys and keys: no certificate and"),
        (("--tls-cert", "keys"), "", "give both --tls-cert and --tls-key"),
        (("--tls",), "", "--tls is for --router"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: tuple[str, ...], text: str, told: str) -> None:
    (tmp_path / "router.yaml").write_text("{}")
    if text:
        (tmp_path / "keys").write_text(text)
    given = ["--config", "router.yaml", "--host", "127.0.0.1", "--port", "0", "--metrics-port=-1"]
    done = subprocess.run(
        [sys.executable, "-m", "ollama_fleet.router.main", *given, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]


def test_nobody_could_ask(tmp_path: Path) -> None:
    (tmp_path / "router.yaml").write_text("auth: {anonymous: false}")
    done = subprocess.run(
        [sys.executable, "-m", "ollama_fleet.router.main", "--config", "router.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, "start with --keys FILE" in done.stderr) == (2, True)
