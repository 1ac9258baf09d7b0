"""What comes with the official client, and what does not."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("program", ["controllers", "console", "router", "cli"])
def test_the_validator_is_not_imported_with_it(program: str) -> None:
    """It is installed here, for its schemas."""
    look = (
        f"import sys, ollama_fleet.{program}.main, ollama_fleet.kube.transport\n"
        "assert 'kubernetes' in sys.modules\n"
        "assert not {'jsonschema', 'kubernetes_validate'} & set(sys.modules)\n"
        "import kubernetes_validate"
    )
    subprocess.run([sys.executable, "-c", look], check=True, timeout=60)
