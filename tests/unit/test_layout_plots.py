"""Default plots as trees: whatever agrees in length is plotted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from scanbus.schemas import ChannelDescription, PlotDescription, Role, Storage
from scanbus.writer.layouts.common.channel_nodes import Place
from scanbus.writer.layouts.common.nxdata import Drawn, plot_nodes
from scanbus.writer.model.nexus_tree import Group, Node, SoftLink, Value
from scanbus.writer.model.trajectory import Trajectory
from tests.support.scan_folders import channel, lane


def places(**points: int | None) -> dict[str, Place]:
    fast = lane(
        "fast",
        Storage.VALUES,
        channel("x", "fast", role=Role.AXIS),
        channel("y", "fast", role=Role.AXIS),
        channel("diode", "fast"),
        channel("pico", "fast"),
        channel("text", "fast", dtype="string", max_point_bytes=9),
    )
    frames = lane(
        "eiger",
        Storage.FILES,
        channel("eiger", "eiger", role=Role.DETECTOR, shape=(3, 4)),
    )
    found = {
        each.name: Place(one, each, each.name, "data", f"/1.1/{each.name}", 5)
        for one in (fast, frames)
        for each in one.channels
    }
    for name, n_points in points.items():
        found[name] = replace(found[name], n_points=n_points)
    return found


def plot(found: dict[str, Place], name: str, *wanted: PlotDescription) -> Group:
    node = plot_nodes("1.1", wanted, Drawn(found), ())[name]
    assert isinstance(node, Group)
    return node


def replace_name(place: Place, name: str) -> ChannelDescription:
    return place.channel.model_copy(update={"name": name})


def test_counters_are_plotted_over_the_axes_by_default() -> None:
    nodes = plot_nodes("1.1", (), Drawn(places()), ())
    assert list(nodes) == ["plot", "plot_eiger", "plotselect"]
    assert nodes["plotselect"] == SoftLink("/1.1/plot")
    found = plot(places(), "plot")
    assert found.attributes == {
        "signal": "diode",
        "auxiliary_signals": ("pico",),
        "axes": ("x", "y"),
        "x_indices": 0,
        "y_indices": 0,
    }
    assert found.children["diode"] == SoftLink("/1.1/diode")


def test_no_counter_is_drawn_as_error_bars() -> None:
    names = {"errors": "diode", "diode_errors": "pico", "title": "x", "x": "y"}
    given = places()
    found = {
        name: replace(given[old], channel=replace_name(given[old], name))
        for name, old in {**names, "diode": "diode"}.items()
    }
    group = plot(found, "plot")
    assert group.attributes == {
        "signal": "errors_2",
        "auxiliary_signals": ("diode_errors_2", "diode"),
        "axes": ("title_2", "x"),
        "title_2_indices": 0,
        "x_indices": 0,
    }
    assert group.children["errors_2"] == SoftLink("/1.1/diode")
    assert {"errors", "diode_errors", "title"}.isdisjoint(group.children)


def test_an_axis_that_is_named_twice_is_one() -> None:
    wanted = PlotDescription(name="one", signals=("diode",), axes=("x", "x"))
    assert plot(places(), "one", wanted).attributes["axes"] == ("x",)


def test_what_differs_in_length_is_left_out() -> None:
    wanted = PlotDescription(name="p", signals=("diode", "pico"), axes=("x", "y"))
    found = plot(places(pico=4, x=6), "p", wanted)
    assert "auxiliary_signals" not in found.attributes
    assert found.attributes["axes"] == ("y",)
    assert set(found.children) == {"diode", "y"}


def test_two_axes_of_a_scalar_make_a_scatter_plot() -> None:
    wanted = PlotDescription(name="p", signals=("diode",), axes=("x", "y"))
    assert plot(places(), "p", wanted).attributes["axes"] == ("x", "y")


def test_only_axes_that_moved_are_axes() -> None:
    wanted = PlotDescription(name="p", signals=("diode",), axes=("x", "y"))
    still = Drawn(places(), trajectory=Trajectory(moving=("y",)))
    assert group_of(plot_nodes("1.1", (wanted,), still, ()), "p")["axes"] == ("y",)

    nothing = Drawn(places(), trajectory=Trajectory())
    assert group_of(plot_nodes("1.1", (wanted,), nothing, ()), "p")["axes"] == ("x",)


def test_an_axis_that_follows_another_is_one_to_choose() -> None:
    wanted = PlotDescription(name="p", signals=("diode",), axes=("x", "y"))
    moved = Drawn(places(), trajectory=Trajectory(("x", "y"), {"y": "x"}))
    node = plot_nodes("1.1", (wanted,), moved, ())["p"]
    assert isinstance(node, Group)
    assert node.attributes["axes"] == ("x",)
    assert node.attributes["y_indices"] == 0
    assert node.children["y"] == SoftLink("/1.1/y")


def group_of(nodes: dict[str, Node], name: str) -> Mapping[str, Value]:
    node = nodes[name]
    assert isinstance(node, Group)
    return node.attributes


def test_frames_have_one_axis_and_pixels() -> None:
    wanted = PlotDescription(name="p", signals=("eiger",), axes=("x",))
    nodes = plot_nodes("1.1", (wanted,), Drawn(places()), ())
    assert list(nodes) == ["p", "plotselect"]
    assert plot(places(), "p", wanted).attributes["axes"] == ("x", ".", ".")


def test_nothing_is_plotted_before_the_first_point() -> None:
    nothing = dict.fromkeys(places(), 0)
    assert plot_nodes("1.1", (), Drawn(places(**nothing)), ()) == {}


def test_text_is_no_signal() -> None:
    wanted = PlotDescription(name="p", signals=("text", "diode"))
    assert plot(places(), "p", wanted).attributes["signal"] == "diode"


def test_a_plot_that_is_called_like_something_else_gets_a_number() -> None:
    wanted = PlotDescription(name="sample", signals=("diode",))
    assert "sample_2" in plot_nodes("1.1", (wanted,), Drawn(places()), ("sample",))
