"""What an agent takes from flags and the environment."""

from pathlib import Path

import pytest

from ollama_fleet.agent.agent import backoff
from ollama_fleet.agent.settings import Settings, read

SET = {
    "COORDINATOR_URL": "https://fleet.example.com/",
    "OLLAMA_PORT": "11500",
    "OLLAMA_AGENT_MACHINE_NAME": "gpu-box",
    "OLLAMA_AGENT_IP_ADDRESS": "192.168.1.20",
    "COORDINATOR_TOKEN_FILE": "/run/token",
    "COORDINATOR_CA_FILE": "/run/ca.pem",
    "COORDINATOR_REGISTER_RETRY_SECS": "0",
    "COORDINATOR_REGISTER_MAX_RETRIES": "7",
    "COORDINATOR_HEALTH_INTERVAL_SECS": "15",
    "OLLAMA_PULL_TIMEOUT_SECS": "600",
}


def test_what_holds_without_any() -> None:
    assert read([], {}, "box") == Settings(
        url="http://localhost:8080",
        machine_name="box",
        port=11434,
        address=None,
        token_file=None,
        ca_file=None,
        retry=5,
        max_retries=0,
        interval=30,
        pull_timeout=0,
        verbose=False,
    )


def test_the_environment_sets_each() -> None:
    assert read([], SET, "box") == Settings(
        url="https://fleet.example.com",
        machine_name="gpu-box",
        port=11500,
        address="192.168.1.20",
        token_file=Path("/run/token"),
        ca_file=Path("/run/ca.pem"),
        retry=0,
        max_retries=7,
        interval=15,
        pull_timeout=600,
        verbose=False,
    )


def test_flags_win() -> None:
    given = read(["--ollama-port", "1", "--machine-name", "other"], SET, "box")
    assert (given.port, given.machine_name, given.address) == (1, "other", "192.168.1.20")


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"OLLAMA_AGENT_MACHINE_NAME": "a", "OLLAMA_MACHINE_NAME": "b", "HOSTNAME": "c"}, "a"),
        ({"OLLAMA_MACHINE_NAME": "b", "HOSTNAME": "c"}, "b"),
        ({"OLLAMA_AGENT_MACHINE_NAME": "", "HOSTNAME": "c"}, "c"),
        ({}, "box"),
    ],
)
def test_whose_name_is_taken(environ: dict[str, str], name: str) -> None:
    assert read([], environ, "box").machine_name == name


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("COORDINATOR_URL", "fleet.example.com", "write https://fleet.example.com"),
        ("COORDINATOR_URL", "https://fleet.example.com:port", "no URL of a fleet API"),
        ("COORDINATOR_URL", "https://me:secret@fleet", "put the token into a file"),
        ("OLLAMA_PORT", "0", "from 1 to 65535"),
        ("OLLAMA_PORT", "http", "from 1 to 65535"),
        ("OLLAMA_MACHINE_NAME", "gpu box", "without spaces"),
        ("OLLAMA_AGENT_IP_ADDRESS", "gpu-box", "write it like 192.168.1.20"),
        ("OLLAMA_AGENT_IP_ADDRESS", "0.0.0.0", "no address of one machine"),
        ("COORDINATOR_REGISTER_RETRY_SECS", "-1", "give seconds"),
        ("COORDINATOR_REGISTER_RETRY_SECS", "nan", "give seconds"),
        ("COORDINATOR_REGISTER_MAX_RETRIES", "many", "give a whole number"),
        ("COORDINATOR_HEALTH_INTERVAL_SECS", "0", "too short"),
    ],
)
def test_what_is_of_no_use_is_named_with_the_remedy(
    name: str, value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read([], {name: value}, "box")
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{name}: " in last
    assert told in last
    assert "secret" not in last


def test_a_flag_of_no_use_is_refused_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(["--ollama-port", "x"], {}, "box")
    assert "argument --ollama-port: 'x' is no port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "in_clear"),
    [
        ("http://fleet.example.com", True),
        ("https://fleet.example.com", False),
        ("http://localhost:8080", False),
        ("http://[::1]:8080", False),
    ],
)
def test_who_could_read_a_token(url: str, in_clear: bool) -> None:
    assert read(["--coordinator-url", url], {}, "box").in_clear is in_clear


@pytest.mark.parametrize(
    ("first", "waits"),
    [
        (5, [5, 10, 20, 40, 60, 60]),
        (0, [0, 1, 2, 4, 8, 16, 32, 60, 60]),
        (120, [120, 120]),
    ],
)
def test_tries_grow_rarer(first: float, waits: list[float]) -> None:
    assert [backoff(tries, first) for tries in range(1, len(waits) + 1)] == waits
    assert backoff(10**6, first) == waits[-1]
