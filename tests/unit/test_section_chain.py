"""Pieces of sections: each point once, from the first on."""

from hypothesis import given
from hypothesis import strategies as st

from scanbus.writer.model.section_chain import cover

RANGES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda r: (r[0], r[0] + r[1]))
)


@given(sections=RANGES, over_holes=st.booleans())
def test_each_point_that_a_section_has_is_in_one_piece(
    sections: list[tuple[int, int]], over_holes: bool
) -> None:
    pieces = cover(sections, over_holes=over_holes)
    points = [point for _, start, stop in pieces for point in range(start, stop)]
    there = {point for start, stop in sections for point in range(start, stop)}
    if not over_holes:
        hole = next(point for point in range(50) if point not in there)
        there = {point for point in there if point < hole}
    assert points == sorted(there)
    for place, start, stop in pieces:
        assert sections[place][0] <= start < stop <= sections[place][1]


def test_of_equal_sections_the_first_is_used() -> None:
    assert [piece.place for piece in cover([(0, 4), (0, 4), (4, 6), (4, 6)])] == [0, 2]
