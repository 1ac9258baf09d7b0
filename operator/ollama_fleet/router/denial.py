"""A server that refuses the router itself: nothing its clients could have caused or can mend.

One that sends its callers elsewhere does too: their programs would follow, with their keys.
"""

from ollama_fleet.router.errors import Refusal
from ollama_fleet.router.framing import Request
from ollama_fleet.router.snapshot import Endpoint

_STATUSES = frozenset((401, 403, 407))


def denies(status: int, request: Request, endpoint: Endpoint) -> bool:
    """Whether a server means the router by an answer of this status.

    A client's own credentials never reach a server. Its Origin does, and Ollama answers a foreign
    one with 403.
    """
    if status not in _STATUSES:
        return 300 <= status < 400
    foreign = status == 403 and not endpoint.headers
    return not (foreign and any(name == b"origin" for name, _ in request.fields))


def told_to_operators(name: str, status: int, endpoint: Endpoint) -> str:
    """For the log: what to mend. Values of headers are never shown."""
    if status < 400:
        return f"{name} points elsewhere with {status}: set its url to where it answers itself."
    if endpoint.secret:
        remedy = f"Correct the headers in Secret {endpoint.secret}"
    elif endpoint.headers:
        remedy = "Correct its headers"
    else:
        remedy = "Put the headers it asks for into a Secret and name it in headersSecretRef"
    return f"{name} refuses the router with {status}: no client can mend that. {remedy}."


def told_to_clients(model: str, status: int) -> Refusal:
    """Not 401: the client's own key is not what is wrong."""
    if status < 400:
        sentence = f"the server with '{model}' points elsewhere; tell whoever runs it"
        return Refusal(502, sentence, reason="Denied")
    sentence = f"the server with '{model}' refuses the router's credentials; tell whoever runs it"
    return Refusal(502, sentence, reason="Denied")
