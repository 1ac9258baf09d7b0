"""What a kubeconfig says besides how to reach the API server."""

import os
from pathlib import Path

import yaml

from ollama_fleet.kube.errors import ConfigError

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def default_namespace(kubeconfig: str | None = None, context: str | None = None) -> str:
    """The namespace that kubectl would use: the context's, in a pod its own, else ``default``.

    ConfigError where there is no such context, or no kubeconfig that can be read.
    """
    from ollama_fleet.kube.official import ConfigException, list_kube_config_contexts

    files = kubeconfig or os.environ.get("KUBECONFIG")
    if not files and "KUBERNETES_SERVICE_HOST" in os.environ:
        return _POD.read_text().strip() if _POD.exists() else "default"
    files = files or str(Path.home() / ".kube" / "config")
    try:
        contexts, current = list_kube_config_contexts(files)
    except (ConfigException, OSError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        if context is None:
            return "default"
        contexts, current = [], None
    if context is not None:
        current = next((one for one in contexts if one["name"] == context), None)
        if current is None:
            names = ", ".join(str(one["name"]) for one in contexts) or "none"
            raise ConfigError(f"no context {context!r} in {files}: there are {names}")
    return str(((current or {}).get("context") or {}).get("namespace") or "default")
