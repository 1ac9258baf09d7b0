"""An operator of a test's own, that may be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.fleet import OPERATOR, Fleet

PROGRAM = Path(sys.executable).with_name("ollama-fleet-operator")


@contextmanager
def operating(fleet: Fleet, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An operator with the rights of the installed one, killed in the end."""
    kubeconfig = folder / "operator"
    if not kubeconfig.exists():
        fleet.cluster.token_kubeconfig(OPERATOR, OPERATOR, kubeconfig)
    given = json.loads((fleet.cluster.directory / "environment.json").read_text())
    own = {
        "KUBECONFIG": str(kubeconfig),
        "POD_NAME": "operator-of-a-test",
        "POD_NAMESPACE": OPERATOR,
        "OLLAMA_FLEET_IMAGE": "ollama-fleet/ollama-fleet:0.1.0",
    }
    with (folder / "operator.log").open("ab") as log:
        process = subprocess.Popen(
            [str(PROGRAM), "--host=127.0.0.1", "--port=0"],
            env={**os.environ, **given, **own},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
