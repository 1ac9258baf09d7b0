"""`python -m tests.walk`: every field changed, and a table of what came of it."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.walk.campaign import campaign, table
from tests.walk.rows import changes
from tests.walk.site import site


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.walk", description=__doc__)
    add = parser.add_argument
    add("fields", nargs="?", default="", help="a pattern for KIND.PATH, such as 'Router.*health'")
    add("--at-once", type=int, default=6, metavar="COUNT", help="namespaces at once (%(default)s)")
    add("--folder", type=Path, help="where logs are kept; a temporary folder where it is absent")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="ollama-fleet-walk-"))
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run(given, folder))


async def _run(given: argparse.Namespace, folder: Path) -> int:
    chosen = [one for one in changes() if re.search(given.fields, one.kind + one.path)]
    began = time.monotonic()
    async with site(folder) as here:
        outcomes = await campaign(here, chosen, given.at_once, print)
    print(f"\n{table(outcomes)}\n\n{time.monotonic() - began:.0f} s in all; logs are in {folder}")
    return 1 if any(one.faults for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
