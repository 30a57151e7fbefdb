"""The root of every error that pytunnel raises on purpose.

Each layer derives its own type from it. The text is one sentence or two for a person: what was seen, where,
what was expected and what to do. It never holds key material or a secret.
"""


class PytunnelError(Exception):
    """A failure that a person can act on; the faces print it as one line, without a traceback.

    `exit_code` is the process's exit status. The values are errno-like because Galera servers
    report the exit status of an SST script as an errno.
    """

    exit_code = 1
