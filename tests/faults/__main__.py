"""`python -m tests.faults`: every fault, one at a time, and a table of what came of it."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.campaign import campaign, table
from tests.faults.grounds import grounds
from tests.faults.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    add = parser.add_argument
    add("--sample", type=int, metavar="COUNT", help="runs per scenario, spread evenly over all")
    add("--at-once", type=int, default=6, metavar="COUNT", help="runs at once (%(default)s)")
    add("--only", metavar="TEXT", default="", help="faults whose name has this in it")
    names = [one.name for one in SCENARIOS]
    add("--scenario", choices=names, action="append", help="these alone (repeatable)")
    add("--folder", type=Path, help="where logs are kept; a temporary folder where it is absent")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="ollama-fleet-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run(given, folder))


async def _run(given: argparse.Namespace, folder: Path) -> int:
    chosen = [one for one in SCENARIOS if given.scenario is None or one.name in given.scenario]
    began = time.monotonic()
    async with grounds(folder) as there:
        results = [
            await campaign(there, one, given.sample, given.at_once, given.only, print)
            for one in chosen
        ]
    print(f"\n{table(results)}\n\n{time.monotonic() - began:.0f} s in all; logs are in {folder}")
    return 1 if any(one.bad for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
