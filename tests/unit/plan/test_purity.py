import ast
from pathlib import Path

import ollama_fleet.plan

FORBIDDEN = {"asyncio", "time", "random", "logging", "os", "socket", "httpx2", "subprocess"}


def test_plan_reads_no_clock_and_does_no_input_or_output() -> None:
    for path in Path(ollama_fleet.plan.__path__[0]).glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {
            name.name.split(".")[0]
            for statement in ast.walk(tree)
            if isinstance(statement, ast.Import)
            for name in statement.names
        } | {
            (statement.module or "").split(".")[0]
            for statement in ast.walk(tree)
            if isinstance(statement, ast.ImportFrom)
        }
        assert not imported & FORBIDDEN, path.name
        calls = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        assert "utcnow" not in calls, path.name
        assert not any(
            isinstance(node, ast.Attribute)
            and node.attr == "now"
            and isinstance(node.value, ast.Name)
            and node.value.id == "datetime"
            for node in ast.walk(tree)
        ), path.name
