"""What the donor's rsync runs as its remote shell: it hands rsync's two sockets over and ends.

rsync starts us with its connection as standard input and output; descriptor argv[1] is a socket to pytunnel, which
carries the bytes from then on. So no port is open on the donor, and no process of ours copies.
This file is run as a program without pytunnel on the path; it must import nothing but the standard library.
"""

import _socket  # the part of `socket` that is needed: the rest takes as long to load as the interpreter itself
import posix  # the part of `os`, likewise
import sys

_INT = 4  # bytes of a descriptor in SCM_RIGHTS, unix(7)


def main() -> None:
    """Pass standard input and output over the inherited socket, and say which process rsync is."""
    control = _socket.socket(fileno=int(sys.argv[1]))
    descriptors = b"".join(descriptor.to_bytes(_INT, sys.byteorder) for descriptor in (0, 1))
    control.sendmsg([b"%d" % posix.getppid()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])


if __name__ == "__main__":
    main()
