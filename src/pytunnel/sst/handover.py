"""What the donor's rsync runs as its remote shell: it hands rsync's two sockets over and ends.

rsync starts us with its connection as standard input and output; descriptor argv[1] is a socket to pytunnel, which
carries the bytes from then on. So no port is open on the donor, and no process of ours copies.
This file is run as a program without pytunnel on the path; it must import nothing but the standard library.
"""

import socket
import sys


def main() -> None:
    """Pass standard input and output over the inherited socket."""
    with socket.socket(fileno=int(sys.argv[1])) as control:
        socket.send_fds(control, [b"\0"], [0, 1])


if __name__ == "__main__":
    main()
