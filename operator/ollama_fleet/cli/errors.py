"""What a command cannot do."""


class NotPossible(Exception):  # noqa: N818
    """What was asked for cannot be done; the message says why and what to write."""
