"""Telling systemd that the service is ready, alive, and leaving.

The protocol is a datagram to the socket that systemd names (sd_notify(3)); outside of
systemd nothing happens.
"""

from __future__ import annotations

import os
import socket

__all__ = ["notify"]


def notify(state: str) -> bool:
    """Send one state, e.g. ``READY=1``; return whether anybody was there to tell."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    # A leading @ stands for the NUL of Linux's abstract sockets.
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto(state.encode(), address)
        except OSError:
            return False  # systemd decides by its own deadline; scans come first.
    return True
