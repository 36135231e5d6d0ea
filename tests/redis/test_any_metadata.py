"""Whatever a program gives as metadata: the scan is complete, and has all of it."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.domain.test_metadata_in_files import KEYS, VALUES
from tests.support.metadata_leaves import missing_leaves, parts_of
from tests.support.writers import writer

pytestmark = pytest.mark.redis


class Filter(enum.Enum):
    IN = "in"
    OUT = frozenset({1, 2})


@dataclass
class Sample:
    name: str
    mass: Any = None
    layers: list[Any] = field(default_factory=list)


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?"),
    st.sampled_from([np.dtype("g"), np.dtype("G"), np.dtype("O")]),
    hnp.unicode_string_dtypes(max_len=4),
    hnp.byte_string_dtypes(max_len=4),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
)
STRUCTURED = st.sampled_from(
    [
        np.dtype([("x y", ">f8"), ("n", "i2"), ("t", "U3")]),
        np.dtype([("a", [("b", "f2"), ("a/b", "?")]), ("m", "u1", (2, 2))]),
        np.dtype([("array", "i4")]),
    ]
)
ELEMENTS = st.none() | st.integers() | st.text(max_size=3)


@st.composite
def arrays(draw: st.DrawFn) -> npt.NDArray[Any]:
    """Arrays of any type and up to three dimensions, some of them views."""
    dtype = draw(DTYPES | STRUCTURED)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    elements = ELEMENTS if dtype == np.dtype("O") else None
    if dtype.char in "gG":
        doubles = draw(hnp.arrays(np.float64, shape, elements=st.floats(-1e9, 1e9)))
        array: npt.NDArray[Any] = doubles.astype(dtype) / 3
    else:
        array = draw(hnp.arrays(dtype, shape, elements=elements))
    how = draw(st.sampled_from(["", "turned", "strided", "scalar"]))
    if how == "turned":
        return array.T
    if how == "strided" and array.ndim:
        return np.repeat(array, 2, axis=0)[::2]
    if how == "scalar" and array.size:
        return array.flat[0]  # type: ignore[no-any-return]
    return array


LEAVES = st.one_of(
    VALUES,
    arrays(),
    st.sampled_from([*Filter]),
    st.sets(st.integers() | st.uuids() | st.none(), max_size=3),
    st.builds(Sample, st.text(max_size=3), arrays() | VALUES),
    st.lists(arrays(), max_size=2),
)
# More keys than one: some become the same name.
METADATA = st.dictionaries(KEYS, LEAVES, max_size=4)


class Circle(dict[str, Any]):
    """A mapping that holds itself, and a very deep one."""

    def __init__(self) -> None:
        super().__init__(itself=self, listed=[self], deep={})
        inner = self["deep"]
        for _ in range(300):
            inner["a"] = inner = {}


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Publisher, Path]]:
    root = tmp_path_factory.mktemp("root")
    with (
        PrivateRedis() as server,
        writer(server.url, root),
        Publisher(server.url, name="tests") as publisher,
    ):
        yield publisher, root


def without_none(value: Any) -> Any:
    """Return what an update leaves: None withdraws a value."""
    parts = parts_of(value)
    if parts is None:
        return value
    return {key: without_none(each) for key, each in parts.items() if each is not None}


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(METADATA, min_size=1, max_size=10), st.lists(METADATA, max_size=4))
def test_a_scan_is_complete_with_any_metadata(
    bench: tuple[Publisher, Path],
    first: list[dict[str, Any]],
    later: list[dict[str, Any]],
) -> None:
    publisher, root = bench
    start = {f"first{number}": each for number, each in enumerate(first)}
    updates = {f"later{number}": each for number, each in enumerate(later)}
    with publisher.scan(
        metadata={**start, "circle": Circle()}, uid=f"any/{uuid.uuid4()}"
    ) as scan:
        scan.channel("a", nexus={"attributes": {"b": first[0]}, "field": "x"})
        for key, each in updates.items():
            scan.update({key: each})
            scan.send("a", 1.0)
    verdict = scan.verdict(60)
    assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
    with h5py.File(root / verdict.master) as file:
        entry = file[f"{scan.identity.scan_number}.1"]
        said = {**start, **without_none(updates)}
        assert list(missing_leaves(said, entry)) == []
        assert "problems" not in entry["scanbus"]
