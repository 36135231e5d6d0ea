"""Whatever a program calls metadata is in the file, as itself or said to be else."""

from __future__ import annotations

import collections
import enum
import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scanbus.bus.protocol import ScanRecord
from scanbus.publisher.declare.metadata import MetadataConverter, tree_of
from scanbus.schemas import ScanUpdated, parse_event
from scanbus.schemas.valid_names import nexus_name
from scanbus.writer.layouts.esrf import layout
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.storage.tree_writer import write_tree
from tests.support.descriptions import identity
from tests.support.metadata_leaves import missing_leaves

STAMP = FileStamp("2026-01-01T00:00:00+00:00", "1", "2", "3")
_numbers = itertools.count()


@contextmanager
def written(*trees: dict[str, Any]) -> Iterator[h5py.Group]:
    """Yield the entry of a scan with these metadata, sent one after the other."""
    record = ScanRecord(identity())
    for number, tree in enumerate(trees):
        sent = ScanUpdated(time=number, metadata=tree).to_json()
        record.fold(parse_event(sent))
    master = layout(
        ScanContents(record, choice=LayoutChoice(with_users=True)), stamp=STAMP
    )
    name = f"metadata{next(_numbers)}"
    with h5py.File(name, "w", driver="core", backing_store=False) as file:
        write_tree(file, master)
        yield file["1.1"]


KEYS = st.one_of(
    st.sampled_from(["a", "b", "a b", "a-b", "a_b", "a/b", "", ".", "..", "@", "a@"]),
    st.sampled_from(["temp\N{LATIN SMALL LETTER E WITH ACUTE}", "a\0b", "\ud800"]),
    st.sampled_from(["me@esrf.fr", "array", "XF:23ID1-ES{Dif-Ax:Del}Pos", "x" * 99]),
    st.text(max_size=8).filter(lambda key: "@" not in key),
)
# What the scan says itself stays; metadata of these names go to another place, and the
# file says so: `test_metadata_in_the_place_of_others_have_another`.
OWN = {"definition", "end_reason", "end_time", "notes", "plotselect", "scanbus"}
OWN |= {"instrument", "measurement", "start_time", "title", "writer"}
TOP_KEYS = KEYS.filter(lambda key: nexus_name(key) not in OWN)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["a\0", "a\0b", "\ud800x", "\0"]),
    st.binary(max_size=4),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.datetimes(),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))])),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS | st.frozensets(st.integers() | st.text(max_size=3), max_size=3),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(st.lists(st.integers() | st.floats(), max_size=2), max_size=2),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)


@example({"a": frozenset({-2, -1, 2**63})})  # By number, and by its letters.
@given(st.dictionaries(TOP_KEYS, VALUES, max_size=6))
def test_all_leaves_of_any_metadata_are_in_the_file(metadata: dict[str, Any]) -> None:
    with written(tree_of(metadata)) as entry:
        assert list(missing_leaves(metadata, entry)) == []
        assert "problems" not in entry["scanbus"]


@given(st.lists(st.dictionaries(TOP_KEYS, st.integers(0, 9), max_size=4), max_size=4))
def test_a_later_value_replaces_that_of_its_key_alone(
    trees: list[dict[str, int]],
) -> None:
    converter = MetadataConverter()
    said: dict[str, int] = {}
    for tree in trees:
        said |= tree
    sent = [converter.tree(tree, none_withdraws=True) for tree in trees]
    with written(*sent) as entry:
        assert list(missing_leaves(said, entry)) == []


class Colour(enum.Enum):
    RED = "red"
    NAMES = ("r", "\0")


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Sample:
    name: str = "LaB6"
    mass: float | None = None


class Cell(NamedTuple):
    a: float = 4.156
    unit: str = "Å"


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class NoFloats:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise RuntimeError


ROUND: dict[str, Any] = {}
ROUND["a"] = ROUND["b"] = ROUND["c"] = ROUND
ROUND["d"] = [ROUND]
RECORDS = np.array([(1, 2.5, "x")], [("a b", "i4"), ("b", "f8"), ("c", "U1")])

ODD: list[tuple[Any, Any, str]] = [
    # The value, what is read from the file, and what is said about it.
    (None, "None", "text of NoneType"),
    ({1, 2}, [1, 2], "list of set"),
    ({"b", 1}, '[1, "b"]', "JSON of set"),
    (Colour.RED, "red", "value of Colour.RED"),
    (Colour.NAMES, ["r", ""], "value of Colour.NAMES"),
    (Level.LOW, 1, "value of Level.LOW"),
    (uuid.UUID(int=7), str(uuid.UUID(int=7)), "text of UUID"),
    ([uuid.UUID(int=7)], [str(uuid.UUID(int=7))], "text of UUID"),
    (b"abc\0", "abc", "text of bytes"),
    (bytearray(b"\xff\0"), [255, 0], "bytearray"),
    (memoryview(b"x"), "x", "text of memoryview"),
    (datetime.fromisoformat("2024-01-02"), "2024-01-02T00:00:00", ""),
    (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00", ""),
    (date(2024, 1, 2), "2024-01-02", ""),
    (time(1, 2), "01:02:00", ""),
    (timedelta(hours=1), "1:00:00", "text of timedelta"),
    (Decimal("1.10"), "1.10", "text of Decimal"),
    (Fraction(1, 3), "1/3", "text of Fraction"),
    (Path("a/b"), "a/b", ""),
    (1j, 1j, ""),
    ([1, 2j], [1, 2j], ""),
    (2**64, str(2**64), "text of int"),
    (10**5000, hex(10**5000), "text of int"),
    ([1.5, 2**60 + 1], f"[1.5, {2**60 + 1}]", "JSON of list"),
    ([-1, 2**63], f"[-1, {2**63}]", "JSON of list"),
    ([True, 1], "[true, 1]", "JSON of list"),
    ([[1], [2, 3]], "[[1], [2, 3]]", "JSON of list"),
    ([[1, 2], [3, 4]], [[1, 2], [3, 4]], ""),
    ([[["a"]]], '[[["a"]]]', "JSON of list"),
    (["a", None], '["a", null]', "JSON of list"),
    ([Sample()], '[{"name": "LaB6", "mass": null}]', "JSON of list"),
    ([np.zeros(2), np.ones(2)], [[0, 0], [1, 1]], ""),
    (range(3), [0, 1, 2], ""),
    (range(10**12), "range(0, 1000000000000)", "text of range"),
    (collections.deque([1]), [1], "list of deque"),
    (list(range(2000)), list(range(2000)), ""),
    ("a\0b", '"a\\u0000b"', "JSON of str"),
    ("padded\0\0", "padded", "text padded with NUL"),
    ("\ud800", '"\\ud800"', "JSON of str"),
    (Unspeakable(), "cannot be shown", "text of Unspeakable"),
    (int, "<class 'int'>", "text of type"),
    (np.float16(1.5), 1.5, ""),
    (np.float32(1.5), 1.5, ""),
    (np.longdouble(1.5), 1.5, ""),
    (np.longdouble("1e4000"), "1e+4000", "text of longdouble"),
    (np.clongdouble(1j), 1j, ""),
    (np.uint64(2**64 - 1), 2**64 - 1, ""),
    (np.bool_(True), True, ""),
    (np.str_("a\0b"), '"a\\u0000b"', "JSON of str"),
    (np.bytes_(b"x"), "x", "text of bytes"),
    (np.datetime64("2024-01-02T03", "ns"), "2024-01-02T03:00:00.000000000", ""),
    (np.datetime64("NaT"), "NaT", ""),
    (np.timedelta64(5, "s"), "5 seconds", "text of timedelta64"),
    (np.void(b"\xff"), [255], "bytes"),
    (np.array(3), 3, ""),
    (np.array("x"), "x", ""),
    (np.array([["a"], ["b"]]), '[["a"], ["b"]]', "JSON of ndarray"),
    (np.array([b"a"]), ["a"], "text of bytes"),
    (np.array([1, None], object), "[1, null]", "JSON of ndarray"),
    (np.array(["2024"], "M8[Y]"), ["2024"], ""),
    (np.zeros((2, 3), ">f2"), np.zeros((2, 3)).tolist(), ""),
    (np.zeros((0, 3)), [], ""),
    (np.ones((1,) * 6), np.ones((1,) * 6).tolist(), ""),
    (np.ones((1,) * 33), [1], "array of shape " + str((1,) * 33)),
    (np.array([1, "1e4000"], "g"), ["1.0", "1e+4000"], "text of float128, shape (2,)"),
]


def read(node: h5py.Dataset) -> Any:
    value = node.asstr()[()] if h5py.check_string_dtype(node.dtype) else node[()]
    return value if isinstance(value, str) else np.asarray(value).tolist()


@pytest.mark.parametrize(("value", "stored", "was"), ODD, ids=range(len(ODD)))
def test_what_is_not_stored_as_itself_says_what_it_was(
    value: Any, stored: Any, was: str
) -> None:
    tree = tree_of({"a": value, "@b": value, "c": 1, "c@d": value})
    with written(tree) as entry:
        assert read(entry["a"]) == stored
        assert entry["a"].attrs.get("stored_as", "") == was
        attribute = entry["c"].attrs["d"]
        is_text = isinstance(attribute, str)
        assert (attribute if is_text else np.asarray(attribute).tolist()) == stored
        assert entry["c"].attrs.get("d_stored_as", "") == was
        assert entry.attrs.get("b_stored_as", "") == was


@pytest.mark.parametrize("kind", ["i4", "u8", "f4", "c8", "?", "U3", "M8[s]"])
def test_masked_values_are_nan_or_null(kind: str) -> None:
    data = np.array([1, 2]).astype(kind)
    values = np.ma.array(data, mask=np.array([0, 1], bool))
    with written(tree_of({"a": values})) as entry:
        found = read(entry["a"])
        assert "masked" in entry["a"].attrs["stored_as"]
        is_nan = isinstance(found, list) and np.isnan(found).tolist() == [False, True]
        assert is_nan or found.endswith(", null]")


@pytest.mark.parametrize(
    ("value", "parts", "was"),
    [
        (Sample(), {"name": "LaB6", "mass": None}, "parts of Sample"),
        (Cell(), {"a": 4.156, "unit": "Å"}, "parts of Cell"),
        (RECORDS[0], {"a b": 1, "b": 2.5, "c": "x"}, "parts of void"),
        (RECORDS, {"a b": [1], "b": [2.5], "c": ["x"]}, "parts of ndarray"),
    ],
)
def test_what_has_parts_is_a_group(value: Any, parts: dict[str, Any], was: str) -> None:
    with written(tree_of({"a": value})) as entry:
        assert list(missing_leaves(parts, entry["a"])) == []
        assert entry["a"].attrs["stored_as"] == was


def test_keys_are_names_and_the_original_stands_beside_them() -> None:
    given_keys = {"a b": 1, "a-b": 2, "a_b": 3, 1: 4, "1": 5, None: 6, ("a", 1): 7}
    with written(tree_of({"a b": 1, "a-b": 2, "a_b": 3, "x": given_keys})) as entry:
        assert entry["a_b"][()] == 3
        assert entry["a_b_2"].attrs["original_name"] == "a b"
        assert entry["a_b_3"].attrs["original_name"] == "a-b"
        assert sorted(node[()] for node in entry["x"].values()) == list(range(1, 8))


def test_what_holds_itself_or_is_very_deep_ends() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"a": deep}
    with written(tree_of({"round": ROUND, "deep": deep})) as entry:
        assert entry["round/a"].attrs["stored_as"] == "JSON of dict"
        assert entry["deep" + "/a" * 16].attrs["stored_as"] == "JSON of dict"


def test_an_array_that_cannot_be_made_is_text() -> None:
    tree = tree_of({"a": NoFloats()})
    assert tree["a@stored_as"] == "text of NoFloats"


def test_metadata_with_the_names_of_the_scan_itself_stand_beside_it() -> None:
    metadata = {
        "title": "mine",
        "definition": "NXmx",
        "end_reason": {"text": "beam lost"},
        "instrument": "BM18",
        "measurement": [1, 2],
    }
    with written(tree_of(metadata)) as entry:
        assert entry["instrument"].attrs["NX_class"] == "NXinstrument"
        kept = entry["scanbus/metadata"]
        assert list(missing_leaves(metadata, kept)) == []
        assert len(entry["scanbus/problems"]) == len(metadata)


@pytest.mark.parametrize("name", sorted(OWN))
def test_metadata_in_the_place_of_others_have_another(name: str) -> None:
    with written(tree_of({name: 5})) as entry:
        kept = entry["scanbus"].get(f"metadata/{name}")
        assert kept is not None
        assert kept[()] == 5
        assert any(name in line for line in entry["scanbus/problems"].asstr())
