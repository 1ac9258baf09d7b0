"""Reading the Secrets a server is reached by, each by its name."""

from ollama_fleet.api.access import Access, SecretError, SecretRefs, authority_in, headers_in
from ollama_fleet.api.conditions import Reason
from ollama_fleet.kube.client import Kube
from ollama_fleet.kube.errors import Forbidden
from ollama_fleet.kube.kinds import SECRET, Object


async def read_access(kube: Kube, namespace: str, refs: SecretRefs) -> Access:
    """What the Secrets say now; SecretError where the user must act, KubeError for all else."""
    headers: tuple[tuple[str, str], ...] = ()
    ca = None
    if refs.headers is not None:
        example = "--from-literal=Authorization='Bearer …'"
        secret = await _read(kube, namespace, refs.headers, example)
        headers = headers_in(secret, refs.headers)
    if refs.ca is not None:
        secret = await _read(kube, namespace, refs.ca, "--from-file=ca.crt=…")
        ca = authority_in(secret, refs.ca)
    return Access(headers, ca)


async def _read(kube: Kube, namespace: str, name: str, example: str) -> Object:
    try:
        secret = await kube.get(SECRET, name, namespace)
    except Forbidden as error:
        raise SecretError(
            Reason.SECRET_FORBIDDEN,
            f"Secret {name} may not be read: {error.message}. Apply this version of the chart, or "
            "grant get on that Secret.",
        ) from None
    if secret is None:
        raise SecretError(
            Reason.SECRET_MISSING,
            f"Secret {name} does not exist. Make it: kubectl -n {namespace} create secret generic "
            f"{name} {example}",
        )
    return secret
