"""Whom to trust with a server's certificate. The router's hot path imports it: nothing but ssl."""

import ssl

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
