"""The certificate that the router serves HTTPS with."""

import ssl


class Certificate(ssl.SSLContext):
    """A server's TLS whose certificate may change: new connections take the latest.

    Each connection is wholly of one context. Loading another chain into the context in use would
    leave the old certificate beside a new one of another kind of key.
    """

    _current: ssl.SSLContext | None

    def __new__(cls) -> "Certificate":
        """Without a certificate yet: every handshake fails."""
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made._current = None
        return made

    @property
    def known(self) -> bool:
        """Whether there is one."""
        return self._current is not None

    def use(self, context: ssl.SSLContext) -> None:
        """Serve new connections with this from now on."""
        self._current = context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """A new connection's end."""
        wrap = super().wrap_bio if self._current is None else self._current.wrap_bio
        return wrap(incoming, outgoing, server_side, server_hostname, session)
