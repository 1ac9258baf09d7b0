"""What goes wrong with a cluster, in words for the one who started it."""


class ClusterError(Exception):
    """One line that says what is wrong and what to do; further lines quote a log."""
