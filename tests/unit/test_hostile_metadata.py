"""Metadata that never end, or are far too many: refused soon, in little memory.

Each would take hours or all memory if it were read before it is counted.
"""

from __future__ import annotations

import gc
import itertools
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.publisher.declare.json_text import text_of
from scanbus.publisher.declare.metadata import MetadataConverter
from scanbus.publisher.declare.nexus_hints import split_hints
from scanbus.publisher.declare.positioners import positioners_of
from scanbus.publisher.declare.static_arrays import StaticArrays
from scanbus.schemas import MAX_METADATA_KEYS
from scanbus.schemas.errors import DeclarationError
from tests.support.endless import Endless, EndlessList, EndlessSet, Onion

MOST_S = 20.0
MOST_BYTES = 3 * 2**30
MASK = np.zeros(2**25, np.uint8)


class OnDisk:
    """An array that would be read from a disk."""

    nbytes = 2**44

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError


class Same:
    """A key that is shown like all others."""

    def __str__(self) -> str:
        return "same"


def doubled(innermost: Any, make: Callable[[Any], Any], levels: int = 60) -> Any:
    """Return few objects that, written out, are very many."""
    for _ in range(levels):
        innermost = make(innermost)
    return innermost


LONG = "x" * 2**20
REFUSED: dict[str, Any] = {
    "300 000 keys": {f"key {number}": number for number in range(300_000)},
    "300 000 keys in groups": {
        f"group {number}": {f"key {each}": each for each in range(3000)}
        for number in range(100)
    },
    "endless mapping": Endless(),
    "endless mapping in a list": [Endless()],
    "endless list": EndlessList(0),
    "endless list of None": EndlessList(None),
    "endless list of lists": EndlessList([]),
    "endless list in a list": [None, EndlessList(None)],
    "endless set": EndlessSet(),
    "onion": Onion(),
    "onion in a list": [Onion()],
    "shared lists": doubled([None], lambda inner: [inner, inner]),
    "shared lists of numbers": doubled([1.0], lambda inner: [inner, inner], 31),
    "shared mappings": doubled({}, lambda inner: {"a": inner, "b": inner}),
    "shared sets": doubled(frozenset(), lambda inner: frozenset([(inner, inner)])),
    "shared tuples of mappings": doubled({}, lambda inner: ({"a": inner}, inner)),
    "long text": "x" * (2**26 + 1),
    "long texts": [LONG] * 10**6,
    "long texts in a mixed list": [None, *[LONG] * 10**6],
    "long text under many keys": {f"key{number}": LONG for number in range(10**4)},
    "long key": {"x" * 2**26: 1},
    "long bytes": np.zeros(385 * 2**20, np.uint8).data,
    "giant integer": 1 << 2**30,
    "giant integers": [1 << 2**23] * 10**6,
    "numbers in text": [np.float64(1)] * (2**20 + 1),
    "many numbers": [1.0] * (2**24 + 1),
    "broadcast": np.broadcast_to(np.uint8(1), 2**40),
    "broadcast objects": np.broadcast_to(np.array(None), 2**28),
    "broadcast texts": np.broadcast_to(np.array("x"), 2**26),
    "broadcast in a list": [np.broadcast_to(np.uint8(1), 2**28)] * 10**6,
    "masked broadcast": np.ma.MaskedArray([None], [True]).repeat(2**21),
    "on a disk": OnDisk(),
    "views of a mask": {f"mask{number}": MASK[number:] for number in range(10_000)},
    "the mask under many keys": {f"mask{number}": MASK for number in range(10_000)},
    "an array that is no array": {
        "array": {"dtype": "u1", "shape": doubled([1], lambda inner: [inner, inner])}
    },
}

TAKEN: dict[str, Any] = {
    "keys of one name": {chr(0x4E00 + number): 1 for number in range(20_000)},
    "keys of one text": {Same(): number for number in range(20_000)},
    "generator": itertools.count(),
    "range": range(10**15),
    "deep": doubled({}, lambda inner: {"a": inner}, 5000),
    "deep list": doubled([], lambda inner: [inner], 5000),
    "50 000 keys": {f"key{number}": number for number in range(MAX_METADATA_KEYS - 1)},
    "million numbers": [1.0] * 10**6,
    "the mask under a few keys": {f"mask{number}": MASK for number in range(20)},
}


@pytest.fixture(autouse=True)
def _bounds() -> Iterator[None]:
    """Fail if a test takes long, or much memory, by processor time: others run."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    # The garbage collector is not to look through what other tests have left.
    gc.collect()
    gc.freeze()
    started = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        gc.unfreeze()
    assert time.process_time() - started < MOST_S


@pytest.mark.sampled(12)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_document_can_hold_is_refused_soon(name: str) -> None:
    converter = MetadataConverter(StaticArrays(2**30))
    with pytest.raises(DeclarationError, match=r"more than|bytes of them"):
        converter.tree({"a": {"b": REFUSED[name]}})
    assert converter.tree({"a": {"c": 1}}) == {"a": {"c": 1}}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", TAKEN)
def test_what_only_looks_too_large_is_taken_soon(name: str) -> None:
    assert MetadataConverter(StaticArrays(2**30)).tree({"a": TAKEN[name]})["a"]


@pytest.mark.timeout(120)
def test_all_that_a_program_says_is_read_within_bounds() -> None:
    for endless in (Endless(), {str(number): 1 for number in range(300_000)}):
        with pytest.raises(DeclarationError):
            positioners_of(endless)
        with pytest.raises(DeclarationError):
            split_hints(endless)
        with pytest.raises(DeclarationError):
            split_hints({"attributes": endless})
        with pytest.raises(DeclarationError):
            split_hints({"attributes": {"a": EndlessList(None)}})
    (position,) = positioners_of({"th": REFUSED["shared lists"]}).values()
    assert position.value == "cannot be shown"
    assert text_of(REFUSED["shared mappings"]) == "cannot be shown"
    assert text_of([1, {"a": None}]) == '[1, {"a": null}]'
