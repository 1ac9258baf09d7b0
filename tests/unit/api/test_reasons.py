import re
from pathlib import Path

from ollama_fleet.api.conditions import Reason

ROOT = Path(__file__).parents[3]
DOCUMENTED = set(
    re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/reference/reasons.md").read_text(), re.MULTILINE)
)


def test_every_reason_is_documented_and_no_other() -> None:
    assert {str(reason) for reason in Reason} == DOCUMENTED


def test_every_reason_is_given_somewhere() -> None:
    sources = ROOT / "operator" / "ollama_fleet"
    code = "".join(path.read_text() for path in sources.rglob("*.py"))
    assert [reason.name for reason in Reason if f"Reason.{reason.name}" not in code] == []
