import json
from pathlib import Path
from typing import Any

import pytest

from ollama_fleet.mirror.credentials import Credential, Credentials, CredentialsError


@pytest.mark.parametrize(
    ("host", "entry", "expected"),
    [
        ("models.lan:5000", {"auth": "YTpiOmM="}, Credential("a", "b:c")),
        ("https://models.lan:5000/v1/", {"username": "a", "password": "b"}, Credential("a", "b")),
        ("Models.lan:5000", {"registrytoken": "t"}, Credential(token="t")),
    ],
)
def test_what_docker_login_writes(
    tmp_path: Path, host: str, entry: dict[str, str], expected: Credential
) -> None:
    path = written(tmp_path, {"auths": {host: entry}})
    credentials = Credentials(path)
    assert credentials.of("models.lan:5000") == expected
    assert credentials.of("other.lan") is None
    assert "b:c" not in repr(expected)


def test_a_changed_file_is_read_again_and_a_broken_one_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path, {"auths": {}})
    credentials = Credentials(path)
    assert credentials.of("a") is None
    written(tmp_path, {"auths": {"a": {"registrytoken": "t"}}})
    assert credentials.of("a") == Credential(token="t")
    written(tmp_path, {"auth": 1})
    assert credentials.of("a") == Credential(token="t")
    path.unlink()
    assert credentials.of("a") == Credential(token="t")


@pytest.mark.parametrize(
    "config", ["{", "[]", '{"auths": {"a": 1}}', '{"auths": {"a": {"auth": "%"}}}']
)
def test_what_is_no_config_is_told(tmp_path: Path, config: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(config)
    with pytest.raises(CredentialsError, match=r"config\.json is no docker config\.json: write"):
        Credentials(path).read()


def written(directory: Path, config: Any) -> Path:
    path = directory / "new"
    path.write_text(json.dumps(config))
    return path.replace(directory / "config.json")
