"""The README and docs: links lead somewhere, and each block says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import (
    COMMANDS,
    ROOT,
    Block,
    anchors,
    answers,
    blocks,
    commands,
    every,
    links,
    name,
)

LANGUAGES = {*COMMANDS, "yaml", "json", "text", "promql", "http"}
FOLDERS = (ROOT / "docs", ROOT / "charts")
ALL = sorted([*ROOT.glob("*.md"), *(page for each in FOLDERS for page in each.rglob("*.md"))])
by_page = pytest.mark.parametrize("page", every(), ids=name)


@pytest.mark.parametrize("page", ALL, ids=name)
def test_every_link_leads_to_a_file_and_a_heading_in_it(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@by_page
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.where}: {block.language!r}"
        if block.language in COMMANDS and "not run" not in block.notes:
            assert commands(block), f"{block.where}: no command"


@by_page
def test_what_is_not_run_says_why(page: Path) -> None:
    for block in blocks(page):
        assert len(block.notes.get("not run", "a whole sentence").split()) > 2, block.where


@by_page
def test_what_is_run_elsewhere_stands_there(page: Path) -> None:
    for block in blocks(page):
        if path := block.notes.get("as in"):
            there = {
                command.text
                for other in blocks(ROOT / path)
                if not {"not run", "as in"} & other.notes.keys() and other.language in COMMANDS
                for command in commands(other)
            }
            for command in commands(block):
                assert command.text in there, f"{block.where}: {command.text}"


def test_the_index_has_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / one.partition("#")[0]).resolve() for one in links(index)}
    assert set(every()) - {index} <= listed


def block(language: str, text: str) -> Block:
    return Block(ROOT / "README.md", 10, language, text, {})


def test_commands_go_on_after_a_backslash_and_in_a_here_document() -> None:
    text = "$ one \\\n  two\nsaid\n$ three <<'END'\n$ four\nEND\n"
    one, three = commands(block("console", text))
    assert (one.line, one.text, one.answer) == (10, "one \\\n  two", ("said",))
    assert (three.text, three.answer) == ("three <<'END'\n$ four\nEND", ())


def test_a_script_has_a_command_a_line_and_no_answers() -> None:
    assert [one.text for one in commands(block("sh", "# first\none\n\ntwo\n"))] == ["one", "two"]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (("NAME  READY",), "NAME   READY  \n", True),
        (("NAME  READY",), "NAME   READY\nmore\n", False),
        (("NAME  READY", "…"), "NAME   READY\nmore\nand more\n", True),
        (("…", "end"), "begin\nend\n", True),
        (("…", "end"), "begin\n", False),
        (("a … c",), "a b b c\n", True),
        (("a …",), "b c\n", False),
        (("2.5",), "2x5\n", False),
        ((), "", True),
    ],
)
def test_an_answer_is_compared_but_for_gaps_and_what_is_left_open(
    shown: tuple[str, ...], printed: str, same: bool
) -> None:
    assert answers(shown, printed) is same
