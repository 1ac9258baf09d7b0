import base64
import json

import pytest

from ollama_fleet.cli.errors import NotPossible
from ollama_fleet.cli.keys import entry, listed, secret_of
from tests.unit.cli.drawing import drawn

KEY = "k" * 64


def test_a_router_without_keys_is_told_how_to_ask_for_them() -> None:
    meta = {"name": "chat"}
    asks = {"metadata": meta, "spec": {"auth": {"keysSecretRef": {"name": "keys"}}}}
    assert secret_of(asks) == "keys"
    with pytest.raises(NotPossible, match="kubectl patch router chat --type merge"):
        secret_of({"metadata": meta, "spec": {}})


def test_neither_keys_nor_their_digests_are_shown() -> None:
    texts = {
        "team": entry(KEY, {"models": ["qwen3:4b"], "requestsPerMinute": 60, "weight": None}),
        "bad": "sha256: 12",
    }
    data = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    table = listed({"data": data})
    digest = json.loads(texts["team"])["sha256"]
    assert KEY not in texts["team"]
    assert digest not in json.dumps(table.rows)
    bad, team, why = drawn(lambda screen: screen.table(table), width=200).splitlines()[1:]
    assert team.split()[:3] == ["team", "qwen3:4b", "60"]
    assert bad.split() == ["bad", "unreadable"]
    assert why.startswith("entry bad: sha256: not the SHA-256 of a key")


def test_no_client_is_told_with_what_to_do() -> None:
    assert "keys create" in drawn(lambda screen: screen.table(listed(None)))
