"""Which plots a scan has by what its channels are."""

from __future__ import annotations

from scanbus.schemas import ChannelDescription, PlotDescription, Role
from scanbus.schemas.plots import all_plots, default_plots
from tests.support.descriptions import channel

TH = channel("th", role=Role.AXIS)
I0 = channel("i0")
TEXT = channel("label", dtype="string", max_point_bytes=9)
FRAMES = channel("d", "d", role=Role.DETECTOR, shape=(2, 2))
SPECTRA = channel("s", "s", shape=(5,))


def shown(plots: tuple[PlotDescription, ...]) -> list[tuple[str, ...]]:
    return [(plot.name, *plot.signals, "over", *plot.axes) for plot in plots]


def test_by_default_counters_and_the_first_frames_are_plotted() -> None:
    other = channel("other", "other")
    more = channel("e", "e", role=Role.DETECTOR, shape=(2, 2))

    plots = default_plots([TH, TEXT, I0, other, SPECTRA, FRAMES, more])
    assert shown(plots) == [
        ("plot0D", "i0", "other", "over", "th"),
        ("plot2D", "d", "over"),
    ]
    assert default_plots([TH, TEXT]) == ()


def test_counters_of_one_unit_share_a_plot_over_all_axes() -> None:
    pico = channel("pico", units="A")
    other = channel("other", units="A")
    rate = channel("rate", units="1/s")
    x, y = channel("x", role=Role.AXIS), channel("y", role=Role.AXIS)

    assert shown(default_plots([x, pico, rate, y, I0, other])) == [
        ("plot0D", "pico", "other", "over", "x", "y"),
        ("plot0D_1_s", "rate", "over", "x", "y"),
        ("plot0D_unitless", "i0", "over", "x", "y"),
    ]
    assert shown(all_plots((), [rate, x, pico])) == [
        ("plot", "rate", "over", "x"),
        ("plot_A", "pico", "over", "x"),
    ]


def test_frames_are_plotted_before_values_of_the_same_frames() -> None:
    value = ChannelDescription(name="d_stop_time", group="group", device="d")
    frames = channel("d", "d", role=Role.DETECTOR, shape=(2, 2))

    first = ("plot2D", "d", "over")
    assert shown(default_plots([frames, value])) == [
        first,
        ("plot0D", "d_stop_time", "over"),
    ]
    assert shown(default_plots([frames, value, I0]))[0] != first
    assert shown(default_plots([TH, frames, value]))[0] != first


def test_a_document_without_plots_shows_the_counters_of_one_lane() -> None:
    elsewhere = channel("x", "other", role=Role.AXIS)
    other = channel("other", "other")

    plots = all_plots((), [elsewhere, I0, TH, other, SPECTRA, FRAMES])
    assert shown(plots) == [
        ("plot", "i0", "over", "th", "x"),
        ("plot_d", "d", "over"),
        ("plot_s", "s", "over"),
    ]
    assert shown(all_plots((), [I0, elsewhere])) == [("plot", "i0", "over", "x")]
    assert all_plots((), [TH]) == ()


def test_arrays_are_plotted_beside_what_a_document_names() -> None:
    named = PlotDescription(name="mine", signals=("i0",))

    assert shown(all_plots((named,), [TH, I0, FRAMES])) == [
        ("mine", "i0", "over"),
        ("plot_d", "d", "over"),
    ]


def test_frames_of_more_dimensions_are_plotted_as_frames() -> None:
    stack = channel("z", "z", role=Role.DETECTOR, shape=(2, 5, 5))

    assert shown(default_plots([SPECTRA, stack])) == [("plot2D", "z", "over")]
    assert shown(all_plots((), [SPECTRA, stack]))[0] == ("plot_z", "z", "over")


def test_the_plot_of_a_long_name_has_a_name_that_nexus_takes() -> None:
    name = "a" * 63

    (plot,) = all_plots((), [channel(name, name, shape=(5,))])
    assert len(plot.name) == 63
    assert plot.signals == (name,)
