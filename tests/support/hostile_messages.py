"""Damaged messages, and what a decoder may do with them."""

import tracemalloc
from collections.abc import Callable

from hypothesis import strategies as st

from scanbus.publisher.gateways.runner.messages import FrameArrived
from scanbus.schemas.errors import MessageError, PayloadError


def decoded_or_refused(decode: Callable[[], object], n_bytes: int) -> None:
    """Any other exception fails the test, and so does memory beyond the message's."""
    tracemalloc.start()
    try:
        message = decode()
        if isinstance(message, FrameArrived):
            for data in message.channels.values():
                data.array()
    except (MessageError, PayloadError):
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 300 * n_bytes + 2**18


@st.composite
def damaged(draw: st.DrawFn, octets: bytes) -> bytes:
    """Return bytes of which some were changed, removed, or added."""
    place = draw(st.integers(0, max(0, len(octets) - 1)))
    match draw(st.sampled_from(["change", "cut", "add"])):
        case "cut":
            return octets[:place]
        case "add":
            return octets[:place] + draw(st.binary(max_size=8)) + octets[place:]
    new = bytes([draw(st.integers(0, 255))])
    return octets[:place] + new + octets[place + 1 :]
