"""Kubeconfig files: one cluster, one user, one context."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from dev.cluster.certificates import KeyPair


def write_kubeconfig(
    path: Path,
    server: str,
    authority: Path,
    *,
    user: Mapping[str, object],
    namespace: str = "default",
) -> Path:
    """Write a kubeconfig readable by its owner alone; `user` is the file's `user` entry."""
    cluster = {"server": server, "certificate-authority-data": _base64(authority)}
    context = {"cluster": "local", "user": "local", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "local", "user": dict(user)}],
        "contexts": [{"name": "ollama-fleet-local", "context": context}],
        "current-context": "ollama-fleet-local",
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(document, file, sort_keys=False)
    return path


def certificate_user(pair: KeyPair) -> dict[str, str]:
    """The `user` entry for a client certificate."""
    return {
        "client-certificate-data": _base64(pair.certificate),
        "client-key-data": _base64(pair.key),
    }


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
