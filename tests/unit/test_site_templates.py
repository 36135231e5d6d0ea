"""Templates of a site: what they may say, and a sentence for what they may not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.site import parse_stored, read_template
from scanbus.writer.layouts.site.parse import MAX_TEXT_BYTES, canonical
from scanbus.writer.layouts.site.template import Template

ENTRY = {"entry": {"group": "NXentry"}, "entry/x": {"value": 1}}


def read(nodes: dict[str, Any] | None = None, **others: Any) -> Template:
    said = {"name": "bm99", "file": "{scan}_bm99.nxs", "nodes": ENTRY | (nodes or {})}
    return read_template("bm99.json", json.dumps(said | others)).template


def test_a_template_comes_back_from_the_text_that_scan_files_keep() -> None:
    found = read(
        {
            "entry/{detector}": {"group": "", "if": {"channel": {"ndim": 2}}},
            "entry/{detector}/data": {"channel": "{detector}", "required": True},
            "entry/y": {"metadata": "/sample/name", "default": [1, 2.5], "units": "mm"},
            "entry/l": {"link": "entry/x", "unless": {"metadata": "a", "equals": 0}},
        }
    )
    assert parse_stored("bm99", canonical(found)) == found


@pytest.mark.parametrize(
    ("path", "node", "sentence"),
    [
        ("entry/y", {"chanel": "th"}, "chanel is unknown; did you mean channel?"),
        ("entry/y", {}, "a node has one of group, value"),
        ("entry/y", {"value": 1, "link": "entry/x"}, "it has value and link"),
        ("entry/y", {"value": 1, "required": True}, "required has no meaning"),
        ("entry/y", {"value": [1, "a"]}, "of one type"),
        ("entry/y", {"value": [[1], [1, 2]]}, "different lengths"),
        ("entry/y", {"value": {"a": 1}}, "value"),
        ("entry/y", {"value": []}, "at least one value"),
        ("entry/y", {"value": 2**64}, "at most 64 bits"),
        ("entry/y", {"value": 300, "dtype": "uint8"}, "no uint8"),
        ("entry/y", {"value": "a\0b"}, "NUL"),
        ("entry/y", {"value": "\ud800"}, "half of a surrogate pair"),
        ("entry/y", {"metadata": "a", "units": "Kelvinz"}, "does not know the units"),
        ("entry/y", {"value": 1, "dtype": "object"}, "dtype"),
        ("entry/y", {"channel": {"rol": "axis"}}, "rol is unknown"),
        ("entry/y", {"channel": {"role": "axes"}}, "'axis'"),
        ("entry/y", {"channel": "{detector}"}, "only below a node with it"),
        ("entry/y", {"metadata": "../other"}, "no path inside"),
        ("entry/y", {"master": "/../../1.1"}, "no path inside"),
        ("entry/y", {"link": "/entry/z"}, "it leads nowhere"),
        ("entry/y", {"link": "/entry/../../x"}, "it leads out of the file"),
        ("entry/y", {"link": "/entry"}, "a cycle of links: entry -> entry/y -> entry"),
        ("entry/y", {"link": "/entry/y"}, "a cycle of links: entry/y -> entry/y"),
        ("entry/y/z", {"value": 1}, "there is no group entry/y; add it"),
        ("entry/x/z", {"value": 1}, "entry/x is no group"),
        ("/entry/x", {"value": 1}, "it is named twice"),
        ("entry/../y", {"value": 1}, "leads nowhere else"),
        ("entry//y", {"value": 1}, "single /"),
        ("entry/y z", {"value": 1}, "no NeXus name"),
        ("entry/{motor}", {"value": 1}, "no placeholder {motor}"),
        ("entry/y", {"group": "data"}, "group"),
        ("entry/y", {"group": "NXdata", "attributes": {"NX_class": "NXx"}}, "as group"),
        ("entry/y", {"value": 1, "attributes": {"a/b": 1}}, "attribute a/b"),
        ("entry/y", {"value": 1, "attributes": {"a": "x" * 10**5}}, "bytes"),
        ("entry/y", {"value": 1, "if": {}}, "either channel or metadata"),
        ("entry/y", {"value": 1, "if": {"channel": "a", "equals": 1}}, "equals needs"),
    ],
)
def test_what_is_wrong_with_a_node_is_a_sentence_that_names_it(
    path: str, node: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LayoutError) as caught:
        read({path: node})
    said = str(caught.value)
    assert said.startswith("layout bm99.json: ")
    assert sentence in said
    assert path.removeprefix("/") in said
    assert "\n" not in said


@pytest.mark.parametrize("key", ["default", "attributes", "equals"])
def test_no_text_of_a_template_has_half_a_character(key: str) -> None:
    half = {"default": "\ud800", "attributes": {"a": "\ud800"}}
    node: dict[str, Any] = {"metadata": "title"}
    if key == "equals":
        node["if"] = {"metadata": "title", "equals": "\ud800"}
    else:
        node[key] = half[key]
    with pytest.raises(LayoutError, match="surrogate pair"):
        read({"entry/y": node})


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("bm99.nxs", "it starts with {scan}"),
        ("{scan}_bm99.txt", "ends with"),
        ("../{scan}_bm99.nxs", "leads out of the scan's folder"),
        ("{scan}/../../bm99.nxs", "leads out of the scan's folder"),
        ("{scan}_{user}.nxs", "no placeholder {user}"),
        ("{scan}.h5", "kept for files of the scan itself"),
        ("{scan}_values.h5", "kept for files of the scan itself"),
        ("{scan}_{dataset}_0001.h5", "kept for files of the scan itself"),
    ],
)
def test_a_name_of_a_file_that_cannot_be_is_a_sentence(
    file: str, sentence: str
) -> None:
    with pytest.raises(LayoutError, match="file") as caught:
        read(file=file)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["esrf", "BM99", "a/b", "", "x" * 33, 7])
def test_a_name_that_no_layout_can_have_is_refused(name: object) -> None:
    with pytest.raises(LayoutError):
        read(name=name)


def test_a_file_has_an_entry() -> None:
    said = {"name": "a", "file": "{scan}_a.nxs", "nodes": {"a": {"group": "NXdata"}}}
    with pytest.raises(LayoutError, match="it has no NXentry"):
        read_template("a.json", json.dumps(said))


def test_a_circle_of_several_links_is_named_whole() -> None:
    nodes = {
        "entry/a": {"group": ""},
        "entry/b": {"group": ""},
        "entry/a/to": {"link": "entry/b"},
        "entry/b/to": {"link": "entry/a"},
    }
    with pytest.raises(LayoutError, match=r"entry/a -> entry/a/to -> entry/b"):
        read(nodes)


def test_a_key_that_stands_twice_is_named() -> None:
    text = '{"name": "a", "name": "b"}'
    with pytest.raises(LayoutError, match="name stands twice"):
        read_template("a.json", text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", ""),
        ("a.json", "[]"),
        ("a.json", "[" * 10**5),
        ("a.json", '{"nodes":' * 10**4),
        ("a.json", '{"name": NaN}'),
        ("a.json", '{"value": 1' + "0" * 5000 + "}"),
        ("a.toml", "= 1"),
        ("a.toml", "a = " + "[" * 5000),
        ("a.json", " " * (MAX_TEXT_BYTES + 1)),
    ],
)
def test_what_is_no_template_at_all_is_a_sentence(name: str, text: str) -> None:
    with pytest.raises(LayoutError) as caught:
        read_template(name, text)
    assert len(str(caught.value)) < 300


def test_a_stored_template_of_another_name_is_refused() -> None:
    with pytest.raises(LayoutError, match="that of layout bm99"):
        parse_stored("other", canonical(read()))


WORDS = st.sampled_from(
    [
        *Template.model_fields,
        *("group", "value", "channel", "metadata", "link", "entry", "entry/x"),
        *("NXentry", "{scan}_a.nxs", "{detector}", "children", "type", "stream"),
        *("nexus_structure", "module", "config", "f144", "dataset", "attributes"),
        *("values", "source", "mdat", "items", "if", "equals", "float32", "dtype"),
    ]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda part: (
        st.lists(part, max_size=4)
        | st.dictionaries(WORDS | st.text(), part, max_size=4)
    ),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(found=st.dictionaries(WORDS, ANY, max_size=6), nodes=ANY)
def test_no_json_raises_anything_but_a_layout_error(
    found: dict[str, Any], nodes: Any
) -> None:
    whole = {"name": "a", "file": "{scan}_a.nxs"}
    structure = {"nexus_structure": {"children": [nodes, found]}, "name": "a"}
    for said in (
        found,
        {**whole, "nodes": {**ENTRY, "entry/y": nodes}},
        {**whole, "nodes": {**ENTRY, "entry/y": found}},
        structure,
    ):
        try:
            made = read_template("a.json", json.dumps(said)).template
        except LayoutError:
            continue
        assert parse_stored(made.name, canonical(made)) == made


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_no_text_raises_anything_but_a_layout_error(text: str) -> None:
    for name in ("a.toml", "a.json"):
        with pytest.raises(LayoutError):
            read_template(name, text)
