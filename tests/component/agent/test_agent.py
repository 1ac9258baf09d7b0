"""The program itself, between an emulated Ollama and a stand-in for the fleet API."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.ollama import process
from dev.ollama.certificates import server_context
from tests.cluster.waiting import eventually
from tests.component.agent.fleets import Fleet, agent, program, serving

TOKEN = "eyJhbGciOi.secret-token.abc"
GPUS = 'echo "NVIDIA L4, 23034, [N/A]"; echo "NVIDIA L4, 23034, [N/A]"'


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with process.server("emulator", tmp_path_factory.mktemp("ollama")) as server:
        yield server.url


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    one = Fleet()
    yield one
    assert not one.wrong
    assert not one.others


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_registers_reports_and_stays_registered(tmp_path: Path, fleet: Fleet, ollama: str) -> None:
    program(tmp_path, "nvidia-smi", GPUS)
    with serving(fleet) as url, agent(tmp_path, url, ollama) as running:
        eventually("two reports", lambda: len(fleet.reports) > 1)
        running.popen.terminate()
        assert running.popen.wait(10) == 0
    (registration,) = fleet.registrations
    version = registration.pop("ollama_version")
    assert version
    assert registration == {
        "machine_name": "box",
        "ip_address": "127.0.0.1",
        "ollama_port": int(ollama.rsplit(":", 1)[1]),
        "gpu_model": "NVIDIA L4",
        "gpu_memory_bytes": 23034 * 2**20,
        "gpu_count": 2,
    }
    report = fleet.reports[-1]
    assert report["ollama_status"] == "online"
    assert report["active_requests"] == 0
    assert 0 < report["memory_usage"] < 100
    assert 0 < report["disk_usage"] < 100
    assert running.times("GPU detected: 2 × NVIDIA L4, 22.5 GiB each\n") == 1
    assert running.times(f"registration successful: .* agent {report['agent_id']}\n") == 1
    assert running.times("stays registered\n") == 1


def test_a_fleet_that_is_away_is_waited_for_and_the_log_says_so_once(
    tmp_path: Path, fleet: Fleet, ollama: str
) -> None:
    port = free_port()
    with agent(tmp_path, f"http://127.0.0.1:{port}", ollama) as running:
        eventually("a refused try", lambda: running.times("not registered, trying again"))
        with serving(fleet, port):
            eventually("a report", lambda: fleet.reports)
            seen = len(fleet.reports)
            fleet.answers_instead = (503, {}, b'{"error": "not yet"}')
            eventually("a failed report", lambda: running.times("answers 503: not yet"))
            fleet.answers_instead = None
            eventually("another report", lambda: len(fleet.reports) > seen)
        eventually("a lost fleet", lambda: running.times("health cannot be reached"))
        with serving(fleet, port):
            eventually("two reports again", lambda: running.times("are taken again") == 2)
    assert running.times("not registered, trying again") == 1
    assert running.times("reports are not taken, trying again") == 2
    assert len(fleet.registrations) == 1


def test_who_is_forgotten_registers_again(tmp_path: Path, fleet: Fleet, ollama: str) -> None:
    with serving(fleet) as url, agent(tmp_path, url, ollama) as running:
        eventually("a report", lambda: fleet.reports)
        fleet.agents.clear()
        fleet.reports.clear()
        eventually("a report again", lambda: fleet.reports)
    assert len(fleet.registrations) == 2
    assert running.times("does not know agent fleet.box") == 1


def test_a_token_is_read_again_and_never_told(tmp_path: Path, fleet: Fleet, ollama: str) -> None:
    fleet.token = TOKEN
    file = tmp_path / "token"
    file.write_text("an-old-token\n")
    settings = {"COORDINATOR_TOKEN_FILE": str(file)}
    with serving(fleet) as url, agent(tmp_path, url, ollama, **settings) as running:
        eventually("a refusal", lambda: running.times("answers 401: who are you"))
        file.write_text(f"{TOKEN}\n")
        eventually("a report", lambda: fleet.reports)
    assert running.times("answers 401") == 1
    assert running.times(r"'Bearer \[hidden\]' FORGED LINE") == 1
    assert "an-old-token" not in running.log
    assert TOKEN not in running.log


def test_ollama_that_is_down_is_told_and_comes_back(tmp_path: Path, fleet: Fleet) -> None:
    port = free_port()
    env = {"OLLAMA_HOST": f"127.0.0.1:{port}"}
    with serving(fleet) as url, agent(tmp_path, url, f":{port}") as running:
        eventually("waiting", lambda: running.times("Ollama does not answer, waiting for it"))
        assert not fleet.registrations
        with process.server("emulator", tmp_path / "first", env) as server:
            eventually("a report", lambda: fleet.reports)
            server.kill()
        eventually("offline", lambda: fleet.reports[-1]["ollama_status"] == "offline")
        with process.server("emulator", tmp_path / "second", {**env, "EMULATOR_VERSION": "0.99.0"}):
            eventually("online", lambda: fleet.reports[-1]["ollama_status"] == "online")
    assert running.times("waiting for it") == 2
    assert running.times("Ollama .* answers at") == 2


def test_a_server_that_only_its_own_machine_reaches_is_pointed_out(
    tmp_path: Path, fleet: Fleet, ollama: str
) -> None:
    settings = {"OLLAMA_AGENT_IP_ADDRESS": "127.0.0.9"}  # the emulator listens on 127.0.0.1
    with serving(fleet) as url, agent(tmp_path, url, ollama, **settings) as running:
        eventually("the remedy", lambda: running.times("start it with OLLAMA_HOST=0.0.0.0"))
        eventually("a report", lambda: fleet.reports)


def test_it_gives_up_where_it_is_told_to(tmp_path: Path, ollama: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with agent(tmp_path, url, ollama, COORDINATOR_REGISTER_MAX_RETRIES="2") as running:
        assert running.popen.wait(30) == 1
    assert running.times("ollama-fleet-agent: not registered after 3 tries: .* be reached") == 1


def test_a_certificate_of_ones_own(tmp_path: Path, fleet: Fleet, ollama: str) -> None:
    tls = server_context("localhost", tmp_path)
    with serving(fleet, tls=tls) as served:
        url = served.replace("127.0.0.1", "localhost")
        with agent(tmp_path, url, ollama) as running:
            eventually("mistrust", lambda: running.times("CERTIFICATE_VERIFY_FAILED"))
        assert not fleet.registrations
        with agent(tmp_path, url, ollama, COORDINATOR_CA_FILE=str(tmp_path / "ca.pem")):
            eventually("a report", lambda: fleet.reports)


@pytest.mark.parametrize(
    ("status", "headers", "content", "told"),
    [
        (301, {"location": "https://there/"}, b"", "points to https://there/: set COORDINATOR_URL"),
        (200, {}, b"<html>", "without an agent_id: is COORDINATOR_URL a fleet API"),
        (409, {}, b'{"error": "box is somebody else\'s"}', "answers 409: box is somebody else's"),
        (502, {}, b"<html>bad gateway</html>", "/api/agents answers 502\n"),
    ],
)
def test_answers_that_are_no_registration_are_told_once(
    tmp_path: Path,
    fleet: Fleet,
    ollama: str,
    status: int,
    headers: dict[str, str],
    content: bytes,
    told: str,
) -> None:
    fleet.answers_instead = (status, headers, content)
    with serving(fleet) as url, agent(tmp_path, url, ollama) as running:
        eventually("more tries", lambda: fleet.requests > 3)
        fleet.answers_instead = None
        eventually("a registration", lambda: fleet.registrations)
    assert running.log.count(told) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read: No such file"), ("", "holds no token"), ("two words", "no token")],
)
def test_a_token_file_of_no_use_is_told_at_the_start(
    tmp_path: Path, content: str | None, told: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with agent(tmp_path, "http://localhost", ":1", COORDINATOR_TOKEN_FILE=str(file)) as running:
        assert running.popen.wait(10) == 2
    assert told in running.log
    assert len(running.log.splitlines()) == 1


def test_it_ends_at_once_while_it_waits(tmp_path: Path) -> None:
    settings = {"COORDINATOR_URL": f"http://127.0.0.1:{free_port()}"}
    with agent(tmp_path, "", f":{free_port()}", **settings) as running:
        eventually("waiting", lambda: running.times("waiting for it"))
        os.kill(running.popen.pid, signal.SIGINT)
        assert running.popen.wait(5) == 0
    assert running.times("stopped; not registered") == 1
