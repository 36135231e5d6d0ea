"""Commands come out as Redis wants them, and large payloads are the same objects."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import HiredisRespSerializer
from redis.exceptions import DataError

from scanbus.bus.store import Argument, CommandPacker

LARGE = st.integers(2**16, 2**16 + 9).map(lambda n: b"\r\n$" + b"x" * (n - 3))
ARGUMENTS = st.lists(
    st.one_of(st.binary(max_size=20), st.text(max_size=5), st.integers(), LARGE),
    max_size=6,
)


@given(arguments=ARGUMENTS, as_views=st.booleans())
def test_the_bytes_are_those_that_hiredis_makes(
    arguments: list[bytes | str | int], *, as_views: bool
) -> None:
    given_: list[Argument] = [
        memoryview(each) if as_views and isinstance(each, bytes) else each
        for each in arguments
    ]
    hiredis: Any = HiredisRespSerializer()
    packed = CommandPacker().pack("XADD", *given_)
    assert b"".join(packed) == hiredis.pack("XADD", *arguments)[0]


def test_a_large_payload_is_not_copied() -> None:
    payload = bytes(2**20)
    assert any(piece is payload for piece in CommandPacker().pack("SET", "k", payload))


def test_what_redis_does_not_take_is_refused_beside_a_large_payload() -> None:
    wrong: object = None
    with pytest.raises(DataError):
        CommandPacker().pack("SET", bytes(2**20), wrong)  # type: ignore[arg-type]
