"""Notify systemd of the service's state: ready, alive, stopping.

The protocol is a datagram to the socket named by ``NOTIFY_SOCKET`` (sd_notify(3));
without systemd nothing is sent.
"""

from __future__ import annotations

import os
import socket

__all__ = ["notify"]


def notify(state: str) -> bool:
    """Send a state, e.g. ``READY=1``, to systemd; return whether it was sent."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    # A leading @ means an abstract socket of Linux, whose name begins with NUL.
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto(state.encode(), address)
        except OSError:
            return False  # Not fatal: writing continues, and systemd has a timeout.
    return True
