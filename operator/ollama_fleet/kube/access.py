"""Reading the Secrets that resources name, each by its name."""

import yaml

from ollama_fleet.api.access import (
    Access,
    SecretError,
    SecretRefs,
    authority_in,
    certificate_in,
    headers_in,
    texts_in,
)
from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.keys import ENTRY, EXAMPLE, Clients, clients_in
from ollama_fleet.api.tls import Pair
from ollama_fleet.kube.client import Kube
from ollama_fleet.kube.errors import Forbidden
from ollama_fleet.kube.kinds import SECRET, Object

YAML_FAULTS = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What PyYAML raises of texts that are none, such as `!!int ''`, or are nested too deeply."""


async def read_access(kube: Kube, namespace: str, refs: SecretRefs) -> Access:
    """What the Secrets say now; SecretError where the user must act, KubeError for all else."""
    headers: tuple[tuple[str, str], ...] = ()
    ca = None
    if refs.headers is not None:
        made = f"generic {refs.headers} --from-literal=Authorization='Bearer …'"
        secret = await _read(kube, namespace, refs.headers, made)
        headers = headers_in(secret, refs.headers)
    if refs.ca is not None:
        secret = await _read(kube, namespace, refs.ca, f"generic {refs.ca} --from-file=ca.crt=…")
        ca = authority_in(secret, refs.ca)
    return Access(headers, ca)


async def read_clients(kube: Kube, namespace: str, name: str) -> Clients:
    """Who may call, as a keys Secret says it now; SecretError where there is none to read."""
    made = f"generic {name} --from-literal=CLIENT='{ENTRY}'"
    return clients_in(texts_in(await _read(kube, namespace, name, made)), value_of)


async def read_good_clients(kube: Kube, namespace: str, name: str) -> Clients:
    """As read_clients; SecretError also where an entry cannot be read, or there is none."""
    found = await read_clients(kube, namespace, name)
    faults = [fault.message for fault in found.faults.values()]
    if faults:
        more = f" (and {len(faults) - 1} more)" if faults[1:] else ""
        raise SecretError(Reason.INVALID_SECRET, f"Secret {name}: {faults[0]}{more}")
    if not found.good:
        told = f"Secret {name} is empty, so no key is known: give it an entry for each client, "
        raise SecretError(Reason.INVALID_SECRET, f"{told}such as {EXAMPLE}")
    return found


async def read_certificate(kube: Kube, namespace: str, name: str) -> Pair:
    """What to serve HTTPS with; SecretError where that cannot be used."""
    secret = await _read(kube, namespace, name, f"tls {name} --cert=… --key=…")
    return certificate_in(secret, name)


def value_of(text: str) -> object:
    """A YAML text's value; raises ValueError, which does not show the text."""
    try:
        return yaml.safe_load(text)
    except YAML_FAULTS:
        raise ValueError("not YAML") from None


async def _read(kube: Kube, namespace: str, name: str, made: str) -> Object:
    """The Secret; `made` is what kubectl create secret makes it with."""
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
            f"Secret {name} does not exist. Make it: kubectl -n {namespace} create secret " + made,
        )
    return secret
