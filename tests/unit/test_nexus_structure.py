"""``nexus_structure`` of the ESS as a template: counterparts, and messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scanbus.schemas.errors import LayoutError
from scanbus.writer.layouts.site import ReadTemplate, read_template


def group(name: str, nx_class: str, *children: Any, **others: Any) -> dict[str, Any]:
    attributes = [{"name": "NX_class", "dtype": "string", "values": nx_class}]
    found = {"name": name, "type": "group", "attributes": attributes}
    return {**found, "children": list(children), **others}


def module(name: str, /, **config: Any) -> dict[str, Any]:
    return {"module": name, "config": config}


def read(*children: Any, **others: Any) -> ReadTemplate:
    entry = group("entry", "NXentry", *children)
    said = {"nexus_structure": {"children": [entry]}, **others}
    return read_template("My-Fit.json", json.dumps(said))


def test_parts_with_a_counterpart_become_nodes() -> None:
    log = module(
        "f144", source="IOC:m1.RBV", topic="t", dtype="double", value_units="mm"
    )
    found = read(
        module("dataset", name="size", values=[[1, 2], [3, 4]], dtype="int32"),
        module("mdat", items=["start_time"]),
        group("x", "NXlog", log),
        module("link", name="near", source="x"),
        group("deep", "NXdata", module("link", name="up", source="../x/value")),
    )
    assert found.messages == ()
    nodes = found.template.nodes
    assert found.template.name == "my_fit"
    assert found.template.file == "{scan}_my_fit.nxs"
    assert nodes["entry"].group == "NXentry"
    assert nodes["entry/size"].value == [[1, 2], [3, 4]]
    assert nodes["entry/size"].dtype == "int32"
    assert nodes["entry/start_time"].metadata == "start_time"
    assert nodes["entry/x/value"].channel == "IOC:m1.RBV"
    assert nodes["entry/x/value"].units == "mm"
    assert nodes["entry/near"].link == "/entry/x"
    assert nodes["entry/deep/up"].link == "/entry/x/value"


def test_the_form_of_earlier_versions_is_read_too() -> None:
    old = {
        "type": "stream",
        "stream": {"writer_module": "f142", "source": "th", "topic": "t"},
    }
    data = {
        "type": "dataset",
        "name": "mode",
        "values": "on",
        "dataset": {"type": "string"},
    }
    found = read(
        group("a", "NXlog", old),
        {**data, "attributes": {"units": "mm", "note": {"values": 7, "dtype": "int8"}}},
        {"type": "link", "name": "b", "target": "/entry/a"},
    )
    assert found.messages == ()
    nodes = found.template.nodes
    assert nodes["entry/a/value"].channel == "th"
    assert nodes["entry/mode"].attributes == {"units": "mm", "note": 7}
    assert nodes["entry/b"].link == "/entry/a"


@pytest.mark.parametrize(
    ("child", "message"),
    [
        (module("ev44", source="a", topic="t"), "entry: stream ev44 is left out"),
        (module("hs00", source="a", topic="t"), "scanbus has no event data"),
        (module("tdct", source="a", topic="t"), "entry: tdct has no counterpart"),
        (module("f144", topic="t"), "it has no name of a source"),
        (module("dataset", name="a"), "entry/a: the dataset is left out"),
        (module("dataset", name="a", values=300, dtype="uint8"), "no uint8"),
        (module("link", name="a", source="/entry/nowhere"), "no such node"),
        (module("link", name="a", source="../../../etc"), "no such node"),
        (group("a-b", "NXdata"), "entry/a_b: its name 'a-b' is no NeXus name"),
        (group("a", "data"), "'data' is no class of NeXus"),
        ({"type": "group"}, "a child without a name"),
        (7, "a child that is no object"),
        ({"type": "magic", "name": "a"}, "magic has no counterpart"),
    ],
)
def test_a_part_without_a_counterpart_has_a_message(child: Any, message: str) -> None:
    found = read(module("dataset", name="kept", values=1), child)
    assert any(message in each for each in found.messages), found.messages
    assert len(found.messages) == 1
    assert "entry/kept" in found.template.nodes


def test_name_and_file_may_stand_beside_it() -> None:
    found = read(name="fit", file="{scan}_fit.hdf5", broker="localhost", job_id="1")
    assert (found.template.name, found.template.file) == ("fit", "{scan}_fit.hdf5")


def test_it_may_be_text_in_the_message_that_starts_a_file() -> None:
    inner = json.dumps({"children": [group("entry", "NXentry")]})
    found = read_template("a.json", json.dumps({"nexus_structure": inner}))
    assert list(found.template.nodes) == ["entry"]


def test_groups_deeper_than_files_should_be_are_left_out() -> None:
    inner = group("last", "NXdata")
    for number in range(200):
        inner = group(f"g{number}", "NXdata", inner)
    found = read(inner)
    assert len(found.template.nodes) == 32
    assert len(found.messages) == 1


@pytest.mark.parametrize(
    "said", [{}, {"children": 1}, [], 7, None, "{", {"children": []}]
)
def test_what_is_no_structure_is_a_sentence(said: Any) -> None:
    with pytest.raises(LayoutError):
        read_template("a.json", json.dumps({"nexus_structure": said}))
