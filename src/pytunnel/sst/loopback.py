"""A loopback network of its own, in which it makes pairs of connected TCP sockets for the joiner, until that one ends.

rsync reads TCP at less processor time than a Unix socket pair, whose buffer of 200 kB wakes both its ends all the time.
But the host's loopback can be listened to by whoever may capture packets, as any container of the same pod, and a port
can be connected to by anybody. So this process leaves for a network namespace that holds nothing but its own loopback.

For each byte that comes over standard input, a socket, a pair goes back; words instead where the system permits no such
namespace. This file is run as a program without pytunnel on the path; it must import nothing but the standard library.
"""

import ctypes
import fcntl
import os
import socket
import struct

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h
_IFREQ = "16sH22x"  # netdevice(7)


def main() -> None:
    """Serve pairs until the other end of the control socket is closed."""
    control = socket.socket(fileno=0)
    try:
        _leave_network()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1)
    except OSError as error:
        control.send((error.strerror or str(error)).encode())
        return
    while control.recv(1):
        ours, theirs = _pair(listener)
        with ours, theirs:
            socket.send_fds(control, [b"\0"], [ours.fileno(), theirs.fileno()])


def _leave_network() -> None:
    """Enter a new network namespace, which takes a user namespace where we are not root, and bring its loopback up."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_IFREQ, b"lo", _IFF_UP))


def _pair(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    connecting = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    for end in (connecting, accepted):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # rsync's answers are small, and waited for
    return connecting, accepted


if __name__ == "__main__":
    main()
