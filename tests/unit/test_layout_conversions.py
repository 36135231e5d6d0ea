"""What was converted, and units nobody knows, are said in the file."""

from __future__ import annotations

import time
from typing import Any

import pytest

from scanbus.writer.layouts.common.conversions import conversions, unknown_units
from scanbus.writer.model.nexus_tree import Dataset, Group, SoftLink
from tests.support.scan_folders import channel
from tests.unit.test_layout_devices import entry
from tests.unit.test_layout_esrf import value_at

KNOWN = ["", "mm", "counts", "counts per us", "1/angstrom^2", "m**-1 * (kg)"]
UNKNOWN = ["furlong/flop!", "1/", "arb. units", "Å℧", "m" * 200]
HUGE = ["m**9**9**9**9", "9^9^9^9", "m**999999999", "(9**99)**(9**99)", "2**1e9"]
NESTED = ["(((9**99)**99)**99)**99", "((((((m*9)^9)^9)^9)^9)^9)^9"]


def field(**attributes: Any) -> Group:
    return Group(children={"a": Dataset(1, attributes), "b": SoftLink("/1.1/a")})


@pytest.mark.parametrize("units", KNOWN)
def test_units_of_pint_are_known(units: str) -> None:
    assert unknown_units(field(units=units)) == ()


@pytest.mark.parametrize("units", [*UNKNOWN, *HUGE, *NESTED])
def test_other_units_get_a_sentence_at_once(units: str) -> None:
    pytest.importorskip("pint")  # Of the extra `writer`.
    begin = time.monotonic()
    (said,) = unknown_units(Group(children={"x": field(units=units)}))
    assert said.startswith("/x/a: units ")
    assert "pint" in said
    assert time.monotonic() - begin < 30


def test_the_same_units_are_said_once() -> None:
    both = {"x": field(units="flop!"), "y": field(units="flop!")}
    assert len(unknown_units(Group(children=both))) == 1


def test_values_without_a_type_and_names_that_collide_are_said() -> None:
    (said,) = conversions(field(stored_as="text of Odd"))
    assert said == "/a: stored as text of Odd, for which HDF5 has no type"
    collided = Group(children={"x_y_2": Dataset(1, {"original_name": "x-y"})})
    (said,) = conversions(collided)
    assert said == "/x_y_2: this is 'x-y', as x_y is another one"


def test_the_master_has_the_sentences() -> None:
    told = {"sample": {"odd": "x", "odd@stored_as": "text of Odd"}}
    found = entry(channel("i0", "g", units="flop!"), **told)
    units, odd = sorted(value_at(found, "scanbus/remarks"))
    assert units.startswith("/instrument/i0/data: units 'flop!' are written")
    assert odd.startswith("/sample/odd: stored as text of Odd")


def test_a_name_that_was_only_cleaned_is_no_problem() -> None:
    cleaned = Group(children={"x_y": Dataset(1, {"original_name": "x-y"})})
    assert conversions(cleaned) == ()
    assert conversions(field(stored_as="bytes")) == ()


def test_very_many_are_counted() -> None:
    many = {f"n{n}": Dataset(1, {"stored_as": "text of Odd"}) for n in range(150)}
    said = conversions(Group(children=many))
    assert len(said) == 101
    assert said[-1] == "50 more values and names were converted"
