"""What an answer is to look like, and where it does not."""

from __future__ import annotations

import re
from typing import Any

Form = Any
"""A type, a pattern of a text, a tuple of choices, a dict of fields, a list of one form for every
element (of which there is one at least), or else the value itself. Fields that are not in the form
may be there; one whose name ends in "?" may be absent or null."""

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
"""RFC 3339, in UTC."""
ID = re.compile(r"\S+")
"""Opaque, and never empty."""


def differences(found: Any, form: Form, at: str = "answer") -> list[str]:
    """Where an answer is not of its form; empty where it is."""
    if isinstance(form, dict):
        if not isinstance(found, dict):
            return [f"{at} is no object but {found!r}"]
        return [told for name, child in form.items() for told in _field(found, name, child, at)]
    if isinstance(form, list):
        if not isinstance(found, list) or not found:
            return [f"{at} is no list with anything in it but {found!r}"]
        parts = (differences(one, form[0], f"{at}[{n}]") for n, one in enumerate(found))
        return [told for part in parts for told in part]
    if isinstance(form, re.Pattern):
        right = isinstance(found, str) and form.fullmatch(found) is not None
    elif isinstance(form, type):
        right = type(found) is form
    elif isinstance(form, tuple):
        right = found in form
    else:
        right = type(found) is type(form) and found == form
    return [] if right else [f"{at} is {found!r}, not {form}"]


def _field(found: dict[str, Any], name: str, form: Form, at: str) -> list[str]:
    bare = name.removesuffix("?")
    if found.get(bare) is None and name != bare:
        return []
    if bare not in found:
        return [f"{at}.{bare} is not there"]
    return differences(found[bare], form, f"{at}.{bare}")
