"""The official client, without the validator that it imports where one is installed.

Nobody here asks for that validation, and the import alone takes seconds of CPU where
kubernetes_validate finds all that it can use: longer than completing a word may take.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _not_installed(module: str) -> Iterator[None]:
    """An import of the module fails meanwhile, unless it was imported before."""
    modules: dict[str, Any] = sys.modules
    hidden = modules.setdefault(module, None) is None
    try:
        yield
    finally:
        if hidden:
            del modules[module]


with _not_installed("kubernetes_validate"):
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.client.rest import RESTClientObject
    from kubernetes.aio.config import (
        ConfigException,
        list_kube_config_contexts,
        load_incluster_config,
        load_kube_config,
    )

__all__ = [
    "ConfigException",
    "Configuration",
    "RESTClientObject",
    "list_kube_config_contexts",
    "load_incluster_config",
    "load_kube_config",
]
