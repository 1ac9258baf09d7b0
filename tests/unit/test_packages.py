"""What we stand on is pinned, agreed on, and may be passed on."""

from __future__ import annotations

from email.message import Message
from typing import Any, cast

import pytest

from dev import packages
from dev.packages import disagreeing, installed, pins, unlicensed, unpinned

GOOD = """a==1.0 \\
    --hash=sha256:00 \\
    --hash=sha256:01
b==2 ; python_version < '3' --hash=sha256:02
"""


def test_what_is_here_is_well() -> None:
    assert packages.complaints() == []


def test_a_file_is_read_with_its_hashes_and_markers() -> None:
    first, second = pins(GOOD)
    assert (first.key, first.hashes, first.applies) == (("a", ""), 2, True)
    assert (second.hashes, second.applies) == (1, False)
    assert unpinned([first, second]) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a --hash=sha256:00", "a is not pinned: write NAME==VERSION"),
        ("a>=1 --hash=sha256:00", "a>=1 is not pinned: write NAME==VERSION"),
        ("a==1.* --hash=sha256:00", "a==1.* is not pinned: write NAME==VERSION"),
        ("a==1,!=2 --hash=sha256:00", "a!=2,==1 is not pinned: write NAME==VERSION"),
        ("a==1", "a==1 has no hash"),
    ],
)
def test_what_may_change_is_told(line: str, told: str) -> None:
    assert unpinned(pins(line)) == [told]


@pytest.mark.parametrize("line", ["--index-url https://example.com", "./wheel.whl"])
def test_what_is_no_package_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is no package"):
        pins(line)


def test_files_that_disagree_are_told() -> None:
    one, other = pins("a==1 --hash=sha256:00"), pins("a==2 --hash=sha256:00\nb==1 --hash=sha256:1")
    assert disagreeing(one, other) == ["a==1 in one file, ==2 in another"]
    assert disagreeing(one, one) == []
    assert disagreeing(one, other[1:]) == []


def test_what_is_installed_in_another_release_is_told() -> None:
    one = pins("a==1 --hash=sha256:00")
    assert installed(one, {"a": "1.0"}) == []
    assert installed(one, {}) == []
    assert installed(one, {"a": "1.1"}) == ["a==1 is pinned, 1.1 is installed: make venv"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"License-Expression": "Apache-2.0"}, []),
        ({"License": "MIT\nCopyright …"}, []),
        ({"Classifier": "License :: OSI Approved :: BSD License"}, []),
        ({"License": "GPL-3.0"}, ["a says of its licence: GPL-3.0"]),
        ({"Classifier": "Topic :: MIT"}, ["a says of its licence: nothing"]),
    ],
)
def test_licences(fields: dict[str, str], told: list[str]) -> None:
    message = Message()
    for name, value in fields.items():
        message[name] = value
    assert unlicensed("a", cast(Any, message)) == told
