"""The demo's command line: python -m dev.demo."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dev.cluster import ClusterError
from dev.demo.screen import Screen
from dev.demo.steps import Demo, DemoFailed
from ollama_fleet.kube import KubeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if every step truly happened."""
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description=__doc__)
    parser.add_argument("--streams", type=int, default=100, help="chats at once (100)")
    parser.add_argument(
        "--stay",
        action=argparse.BooleanOptionalAction,
        default=sys.stdin.isatty() and sys.stdout.isatty(),
        help="stay up until Ctrl-C (on a terminal)",
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="draw what was shown (SVG)")
    options = parser.parse_args(arguments)
    screen = Screen.recorded() if options.record else Screen()
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-demo-") as directory:
        try:
            code = asyncio.run(_run(screen, Path(directory), options))
            if options.record:
                options.record.write_text(screen.picture("make demo"))
            return code
        except (DemoFailed, ClusterError, KubeError) as error:
            screen.console.print(f"demo: {error}", style="bold", markup=False)
            return 1
        except KeyboardInterrupt:
            screen.console.print("demo: interrupted", markup=False)
            return 130


async def _run(screen: Screen, directory: Path, options: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    ending = asyncio.Event()

    def on_signal() -> None:
        if ending.is_set() or not staying:
            task.cancel()
        ending.set()

    staying = False
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    demo = Demo(screen, directory, options.streams)
    try:
        async with contextlib.AsyncExitStack() as stack:
            await demo.run(stack)
            if options.stay:
                staying = True
                demo.say_what_to_try()
                await ending.wait()
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
