"""Dates in headers of images: those that cannot be are left out, and nothing else."""

from datetime import UTC

import pytest

from scanbus.publisher.gateways.files.dates import moment, moment_of, seconds_of

IMPOSSIBLE = (
    "2021-13-01T00:00:00",
    "2021-02-30T00:00:00+00:00",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59",
    "10000-01-01T00:00:00Z",
    "2021-06-17T13:51:36+99:00",
    "99999999999",
    "1e300",
    "nan",
    "-5",
    "²",
)


@pytest.mark.parametrize("date", IMPOSSIBLE)
def test_a_date_that_cannot_be_is_none(date: str) -> None:
    assert seconds_of(moment_of(date, UTC)) is None
    assert moment("start_time", moment_of(date)) == {}
