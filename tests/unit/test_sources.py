"""However long a scan is, its master names few files, and few bytes are copied."""

import itertools
from math import log2
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.schemas.errors import ConfigurationError
from scanbus.schemas.file_names import segment_file_name
from scanbus.writer import WriterSettings
from scanbus.writer.model.scan_contents import SegmentFile
from scanbus.writer.model.segment_chain import chain_of, replaced_names
from scanbus.writer.model.sources import (
    MAX_SOURCES,
    WANTED_SOURCES,
    are_linked,
    files_per_lane,
    last_join,
    named_files,
    next_join,
    sources_per_lane,
)
from scanbus.writer.scan.pace import Pace


class Lane:
    """The files of one lane: how many segments each has, and what was copied."""

    def __init__(self) -> None:
        self.files: list[int] = []
        self.n_copied = 0

    def join(self, place: slice | None) -> bool:
        if place is None:
            return False
        joined = sum(self.files[place])
        assert len(self.files[place]) > 1
        self.n_copied += joined
        self.files[place] = [joined]
        return True

    def grow(self, n_segments: int, most: int) -> int:
        """Add segments; return the most files that it ever had after joining."""
        largest = 0
        for _ in range(n_segments):
            self.files.append(1)
            while self.join(next_join(self.files, most)):
                pass
            largest = max(largest, len(self.files))
        return largest


@given(
    n_segments=st.lists(st.integers(0, 400), min_size=1, max_size=40),
    late=st.integers(0, 3),
    wanted=st.integers(2, MAX_SOURCES),
)
def test_no_mix_of_detectors_has_more_sources_than_the_limit(
    n_segments: list[int], late: int, wanted: int
) -> None:
    most = files_per_lane(len(n_segments), wanted)
    lanes = {f"d{index}": Lane() for index in range(len(n_segments))}
    for (index, lane), n in zip(enumerate(lanes.values()), n_segments, strict=True):
        assert lane.grow(n, most) <= most
        lane.files += [1] * (late * index)  # published while others are joined

    named = named_files({name: lane.files for name, lane in lanes.items()})

    assert sum(map(len, named.values())) <= MAX_SOURCES
    for name, lane in lanes.items():
        assert list(named[name]) == lane.files[: len(named[name])]
        assert bool(named[name]) == bool(lane.files)


@given(n_lanes=st.integers(1, 1500), n_files=st.integers(1, 30))
def test_at_the_end_all_points_of_any_number_of_detectors_are_named(
    n_lanes: int, n_files: int
) -> None:
    share = sources_per_lane(n_lanes)
    lane = Lane()
    lane.files = [1] * n_files
    if n_lanes * n_files > MAX_SOURCES:
        lane.join(last_join(lane.files, share))

    files = {f"d{index}": lane.files for index in range(n_lanes)}
    named = named_files(files)
    assert sum(lane.files) == n_files
    assert {name: list(found) for name, found in named.items()} == files
    is_few = n_lanes * len(lane.files) <= MAX_SOURCES
    # Otherwise every lane is one file, to which the master links.
    assert is_few or (len(lane.files) == 1 and are_linked(named))


@pytest.mark.parametrize(
    ("most", "n_segments", "n_copies"),
    [(128, 128, 0), (128, 4000, 1), (128, 20_000, 2), (64, 1100, 2), (20, 1100, 3)],
)
def test_each_byte_is_copied_a_few_times(
    most: int, n_segments: int, n_copies: int
) -> None:
    lane = Lane()
    assert lane.grow(n_segments, most) <= most
    assert lane.n_copied <= n_copies * n_segments


@given(most=st.integers(4, 200), n_segments=st.integers(1, 1500))
def test_copies_grow_with_the_logarithm_of_the_length(
    most: int, n_segments: int
) -> None:
    lane = Lane()
    assert lane.grow(n_segments, most) <= most
    # Few files need more copies than a merge by pairs, however they are chosen.
    bound = log2(n_segments) + 2 if n_segments < 2**most else n_segments
    assert lane.n_copied <= bound * n_segments


def names_of(files: list[int]) -> list[str]:
    edges = [0, *itertools.accumulate(files)]
    return [
        segment_file_name("d", start, stop - 1)
        for start, stop in itertools.pairwise(edges)
    ]


@given(n_segments=st.integers(1, 60), most=st.integers(2, 9), data=st.data())
def test_joined_files_are_found_whatever_of_their_parts_is_still_there(
    n_segments: int, most: int, data: st.DataObject
) -> None:
    lane, ever = Lane(), set[str]()
    for _ in range(n_segments):
        lane.files.append(1)
        ever.update(names_of(lane.files))
        while lane.join(next_join(lane.files, most)):
            ever.update(names_of(lane.files))
    current = names_of(lane.files)
    gone = ever - set(current)
    still = data.draw(st.sets(st.sampled_from(sorted(gone)))) if gone else set()

    chain = chain_of("d", [*current, *still, "d_x.h5", "dd_0000.h5", "scan0001.h5"])

    assert list(chain.names) == current
    assert set(chain.replaced) == still
    found = replaced_names([*current, *still])
    assert {name for names in found.values() for name in names} == still
    assert set(found) <= set(current)


def test_behind_a_missing_segment_nothing_is_found() -> None:
    assert chain_of("d", ["d_0000.h5", "d_0002.h5"]).names == ("d_0000.h5",)
    assert chain_of("d", ["d_0001-0003.h5"]).names == ()


def test_a_segment_knows_how_many_it_holds() -> None:
    joined = SegmentFile(segment_file_name("d", 4, 11), 40, 120)
    assert (joined.n_parts, joined.next_number) == (8, 12)
    plain = SegmentFile(segment_file_name("d", 12), 120, 130)
    assert (plain.n_parts, plain.next_number) == (1, 13)


def test_the_setting_is_within_the_limits() -> None:
    field = WriterSettings.model_fields["wanted_sources"]
    assert field.default == WANTED_SOURCES == Pace().wanted_sources
    with pytest.raises(ConfigurationError):
        WriterSettings.load(root=Path("/data"), wanted_sources=MAX_SOURCES + 1)
    settings = WriterSettings.load(root=Path("/data"), wanted_sources=MAX_SOURCES)
    assert settings.wanted_sources == MAX_SOURCES
