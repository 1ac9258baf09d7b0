"""TLS contexts out of PEM. The router's hot path imports it: nothing but the standard library."""

import os
import ssl
from dataclasses import dataclass, field

BEGIN = "-----BEGIN CERTIFICATE-----"


def trust(pem: str) -> ssl.SSLContext:
    """A client's TLS that trusts these authorities and no others; raises SSLError or ValueError."""
    if BEGIN not in pem:  # nothing at all would mean every authority the system trusts
        raise ValueError("no certificate")
    # bundles have names of authorities between the certificates, in any script
    context = ssl.create_default_context(cadata=pem.encode("ascii", "ignore").decode())
    # Python 3.13 is stricter than 3.11 and than curl: home-made authorities often lack a key id.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@dataclass(frozen=True, slots=True)
class Pair:
    """A server's certificate, with those that lead to its authority, and its private key: PEM."""

    certificate: str
    key: str = field(repr=False)


def serve(pair: Pair) -> ssl.SSLContext:
    """A server's TLS; raises SSLError where the two are of no use or do not belong together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # OpenSSL reads files alone, and a key belongs on no disk.
    memory = os.memfd_create("certificate")
    try:
        with os.fdopen(os.dup(memory), "wb") as file:
            file.write(f"{pair.certificate}\n{pair.key}\n".encode())
        # without a password it would ask a terminal for that of an encrypted key
        context.load_cert_chain(f"/proc/self/fd/{memory}", password="")
    finally:
        os.close(memory)
    return context
