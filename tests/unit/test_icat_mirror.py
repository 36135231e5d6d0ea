"""Keys of ICAT and NeXus trees: there, back, and what has no counterpart."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scanbus.writer.icat.mirror import (
    _model,
    icat_from_nexus,
    nexus_from_icat,
    technique_names,
)

FIELDS = _model().icat_fields()
# Their successors have them after a translation: see below.
KEYS = sorted(key for key, field in FIELDS.items() if not field.new_icat_name)
RENAMED = sorted(FIELDS.keys() - KEYS)
WORDS = st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9]{0,8}"), fullmatch=True)
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
SPECIAL: dict[str, st.SearchStrategy[str]] = {
    "DOI_citationPublicationDOI": st.just("10.1234/some.thing-1"),
    "DOI_abstract": st.just("long " * 100 + "text"),
    "DOI_title": st.just("a title of more than forty letters, as wanted"),
    "DOI_users": st.just("Ada,Lovelace,0000-0001;Emmy,Noether,0000-0002"),
    "content_schemas": st.just("hibou_diff-image_v1"),
    # The definitions add what belongs to a technique that they know.
    "definition": st.just("XRF"),
    "technique_pid": st.just("https://w3id.org/PaN/ESRFET#XRF"),
    "technique_pid_esrfet_version": st.just("0.1.0"),
    "Compression_target_compression_ratio": st.just("4.5"),
}


OF_TYPE: dict[str, st.SearchStrategy[str]] = {
    "NX_BOOLEAN": st.sampled_from(["true", "false"]),
    "NX_DATE_TIME": st.datetimes().map(lambda moment: f"{moment.isoformat()}+01:00"),
    "NX_INT": st.integers(-1000, 1000).map(str),
    "NX_FLOAT": NUMBERS.map(str),
    "NX_NUMBER": NUMBERS.map(str),
    "NX_CHAR": st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1
    ),
}


def values_of(key: str) -> st.SearchStrategy[Any]:
    """Return texts that a key may have, as ICAT has them."""
    field, kind = FIELDS[key], str(FIELDS[key].annotation)
    literal = re.search(r"Literal\[(.*?)\]", kind)
    if key in SPECIAL:
        return SPECIAL[key]
    if literal:
        return st.sampled_from(re.findall(r"'(.*?)'", literal[1]))
    if "ROIList" in kind:
        return st.just("1,2 3,4")
    if "List" in kind and field.nexus_type == "NX_CHAR":
        (separator,) = re.findall(r"SeparatedListMeta\('(.)'\)", kind)
        return st.lists(WORDS, min_size=1, max_size=3).map(separator.join)
    return OF_TYPE[field.nexus_type]


def same(text: str, other: str) -> bool:
    """Whether two texts of ICAT mean the same."""
    if text == other:
        return True
    try:
        return float(text) == pytest.approx(float(other), abs=1e-12)
    except ValueError:
        return False


@pytest.mark.parametrize("part", range(4))
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_field_comes_back_as_it_was(part: int, data: st.DataObject) -> None:
    """ICAT to NeXus to ICAT, for a share of all fields at once."""
    sent = {key: data.draw(values_of(key), label=key) for key in KEYS[part::4]}

    there = nexus_from_icat(sent)
    assert there.unknown == ()
    back = icat_from_nexus(there.values)

    assert back.unknown == ()
    changed = {
        key: (text, back.values.get(key))
        for key, text in sent.items()
        if not same(text, back.values.get(key, "nothing"))
    }
    assert changed == {}


def test_a_renamed_key_comes_back_under_its_new_name() -> None:
    for key in RENAMED:
        there = nexus_from_icat({key: "3"})
        assert [*icat_from_nexus(there.values).values] != []


def test_units_are_converted() -> None:
    tree = {"instrument": {"source": {"current": 0.2, "current@units": "A"}}}
    assert icat_from_nexus(tree).values == {"InstrumentSource_current": "200.0"}


def test_units_that_do_not_fit_are_said() -> None:
    tree = {"instrument": {"source": {"current": 0.2, "current@units": "s"}}}
    found = icat_from_nexus({**tree, "sample": {"name": "Å"}})

    assert found.values == {"Sample_name": "Å"}
    assert len(found.problems) == 1
    assert found.problems[0].startswith("instrument/source/current: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_finite_number_is_said(value: float) -> None:
    found = icat_from_nexus({"instrument": {"source": {"current": value}}})

    assert found.values == {}
    assert found.problems == (
        f"InstrumentSource_current: {value} is no number of ICAT",
    )


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_text_may_read_as_a_number_that_is_not_finite(text: str) -> None:
    there = nexus_from_icat({"SAXS_hplc_port": text, "Sample_name": text})

    assert icat_from_nexus(there.values).values == {
        "SAXS_hplc_port": text,
        "Sample_name": text,
    }


def test_unknown_keys_are_named_and_the_rest_is_translated() -> None:
    found = nexus_from_icat({"Sample_name": "lysozyme", "Sample_nmae": 1, "": 2})

    assert found.unknown == ("Sample_nmae", "")
    assert found.values["sample"]["name"] == "lysozyme"


def test_unknown_fields_are_named_once_with_their_group() -> None:
    tree = {
        "sample": {"name": "a", "weight": 3, "weight@units": "mg"},
        "instrument": {"eiger": {"x_pixel_size": 1, "mask": {"array": {}}}},
    }
    found = icat_from_nexus(tree)

    assert found.values == {"Sample_name": "a"}
    assert sorted(found.unknown) == ["instrument/eiger", "sample/weight"]


def test_a_value_of_the_wrong_type_is_said() -> None:
    found = nexus_from_icat({"InstrumentSource_current": "much", "Sample_name": "a"})

    assert found.problems[0].startswith("InstrumentSource_current: ")
    assert icat_from_nexus(found.values).values == {"Sample_name": "a"}


def test_a_value_is_named_where_the_definitions_cannot_name_it() -> None:
    """They have no name for the attribute that this key is."""
    found = nexus_from_icat({"saxs_definition.version": False, "Sample_name": "a"})

    assert found.problems == (
        "saxs_definition.version: Input should be a valid string",
    )
    assert found.values["sample"]["name"] == "a"


def test_what_the_definitions_stumble_over_is_said() -> None:
    """They raise no error of validation for it."""
    found = icat_from_nexus({"definition": [0.5], "sample": {"name": "a"}})
    there = nexus_from_icat({"definition": [0.5], "Sample_name": "a"})

    assert found.values == {"Sample_name": "a"}
    assert found.problems[0].startswith("definition: ")
    assert there.problems[0].startswith("definition: ")
    assert there.values["sample"]["name"] == "a"


def test_withdrawn_values_are_left_out() -> None:
    found = icat_from_nexus({"sample": {"name": "a", "description": None}})
    assert found.values == {"Sample_name": "a"}
    assert nexus_from_icat({"Sample_name": None}).values.get("sample") is None


def test_nothing_is_made_up() -> None:
    """What the definitions require is not in a translation unless it was given."""
    assert icat_from_nexus({}).values == {}
    assert nexus_from_icat({}).values.keys() <= {"@NX_class"}


def test_techniques_are_those_of_the_definitions() -> None:
    assert {"TOMO", "SAXS", "MX", "PTYCHO", "FLUO"} <= technique_names()


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.one_of(st.text(), st.floats()), max_size=3),
)
NAMES = st.one_of(
    WORDS,
    st.sampled_from(
        [
            "sample",
            "name",
            "instrument",
            "source",
            "current",
            "current@units",
            "@NX_class",
            "definition",
            "title",
            "start_time",
            "TOMO",
            "compression",
            "type",
        ]
    ),
)
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=4),
    lambda inner: st.dictionaries(NAMES, st.one_of(LEAVES, inner), max_size=4),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None)
@given(tree=TREES)
def test_any_metadata_are_translated_or_named(tree: dict[str, Any]) -> None:
    found = icat_from_nexus(tree)
    assert all(isinstance(text, str) for text in found.values.values())


@example(keys={"saxs_definition.version": False})
@settings(max_examples=25, deadline=None)
@given(
    keys=st.dictionaries(
        st.one_of(st.text(), st.sampled_from(KEYS)), LEAVES, max_size=5
    )
)
def test_any_keys_are_translated_or_named(keys: dict[str, Any]) -> None:
    nexus_from_icat(keys)
