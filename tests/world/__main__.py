"""`python -m tests.world`: every fault of the world, one at a time, and a table."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.world.faults import FAULTS
from tests.world.ground import world
from tests.world.measure import measure, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", default="", help="faults whose name matches")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--verbose", action="store_true", help="all that was said meanwhile")
    given = parser.parse_args()
    chosen = [one for one in FAULTS if re.search(given.only, one.name)]
    if given.list or not chosen:
        print("\n".join(one.name for one in (chosen or FAULTS)))
        return 0 if chosen else 2
    began = time.monotonic()
    results = []
    folder = Path(tempfile.mkdtemp(prefix="ollama-fleet-world-"))
    with world(folder) as there:
        for fault in chosen:
            result = measure(there, fault)
            results.append(result)
            verdict = "; ".join(result.wrong) or "held"
            print(f"{fault.name}: {verdict}\n{table([result])}", flush=True)
            seen = result.said if given.verbose else []
            for line in (
                *seen,
                *result.models_lost,
                *result.writes,
                *sorted(set(result.reasons))[:8],
            ):
                print(f"    {line}", flush=True)
    print(f"\n{table(results)}\n\n{time.monotonic() - began:.0f} s in all")
    return 1 if any(one.wrong for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
