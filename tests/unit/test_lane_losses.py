"""What a spool lost is named, but not what an earlier scan of the program has."""

import pytest

from scanbus.publisher.recovery.lost_data import lane_losses
from scanbus.publisher.spool import Loss
from tests.support.descriptions import bytes_lane


@pytest.mark.parametrize(
    ("first", "stop", "begin", "is_named"),
    [
        (0, 5, 0, True),
        (0, 0, 0, True),  # How many points a damaged first record had is not known.
        (7, 7, 7, True),
        (0, 5, 5, False),
        (3, 6, 5, True),
        (5, 6, 5, True),
    ],
)
def test_a_loss_is_named_unless_an_earlier_scan_has_its_points(
    first: int, stop: int, begin: int, *, is_named: bool
) -> None:
    loss = Loss("a.spool", "damaged", first, stop, 1, is_unknown=stop <= first)
    named = list(lane_losses(bytes_lane(), [loss], begin))
    assert bool(named) is is_named
    assert all("damaged" in each.text for each in named)
