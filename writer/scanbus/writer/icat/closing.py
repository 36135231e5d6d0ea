"""Decide which datasets are closed: pure.

A beamline measures one dataset at a time. So a dataset is closed when a scan of another
one of the same proposal begins at the same beamline, or when nothing came for a time.
One with scans that are being written, or were interrupted, is not closed.
"""

from __future__ import annotations

from collections.abc import Mapping

from scanbus.writer.icat.contents import Activity, DatasetPlace

__all__ = ["closed_datasets"]


def closed_datasets(
    activities: Mapping[DatasetPlace, Activity], *, now_s: float, idle_s: float
) -> list[DatasetPlace]:
    """Return the datasets to which nothing is added any more, those first closed first.

    Parameters
    ----------
    activities : mapping
        What moves in each dataset.
    now_s : float
        The time, seconds since 1970 UTC, of the clock that files get their times from.
    idle_s : float
        Time without a new scan after which a dataset is closed.
    """
    latest: dict[tuple[str, str], float] = {}
    for place, activity in activities.items():
        beamline = place.proposal, place.beamline
        began_s = activity.began_s
        latest[beamline] = max(latest.get(beamline, began_s), began_s)
    closed = []
    for place, activity in activities.items():
        if not activity.n_finished or activity.unfinished:
            continue
        has_successor = latest[place.proposal, place.beamline] > activity.began_s
        if has_successor or now_s - activity.changed_s >= idle_s:
            closed.append(place)
    return sorted(closed, key=lambda place: activities[place].began_s)
