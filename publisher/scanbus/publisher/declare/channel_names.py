"""Give the channels of a scan, their lanes and devices names that files can have.

A program names them as its control system does (``fscan:mca:det0``). Names that are
valid stay; the others get one by the rule of :mod:`scanbus.schemas.valid_names`, when
all are known, and the original stands beside it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from scanbus.publisher.declare.lane_plan import Declared, OriginalNames
from scanbus.schemas.file_names import LATE_PREFIX, STATIC_PREFIX
from scanbus.schemas.valid_names import (
    MAX_GIVEN_NAME_LENGTH,
    nexus_name,
    nexus_names,
    plain_text,
)

__all__ = ["named_channels", "renamed_notes"]


def named_channels(declared: Sequence[Declared]) -> tuple[Declared, ...]:
    """Return the channels under names of files, in the same order.

    Parameters
    ----------
    declared : sequence of Declared
        Their ``original`` names decide; those of the descriptions are ignored.
    """
    # A ragged channel has a dataset of lengths beside its own.
    lengths = {
        f"{nexus_name(each.original.name)}__length"
        for each in declared
        if each.channel.is_ragged
    }
    names = nexus_names((each.original.name for each in declared), lengths)
    lanes = _lane_names(each.original.group for each in declared)
    devices = nexus_names(each.original.device for each in declared)
    return tuple(
        replace(
            each,
            channel=each.channel.model_copy(
                update=_update(
                    each.original,
                    names[each.original.name],
                    lanes[each.original.group],
                    devices[each.original.device],
                )
            ),
        )
        for each in declared
    )


def _update(
    original: OriginalNames, name: str, group: str, device: str
) -> dict[str, str]:
    found = {"name": name, "group": group, "device": device}
    for key in ("name", "group", "device"):
        given = getattr(original, key)
        # A channel without group, or device, has its own name there.
        is_own = key == "group" and given == original.name
        if found[key] != given and not is_own:
            found[f"original_{key}"] = plain_text(given, MAX_GIVEN_NAME_LENGTH)
    return found


def _lane_names(groups: Iterable[str]) -> dict[str, str]:
    """Return a name for each lane; some are kept for late points and static arrays."""
    wanted = {group: _without_prefix(group) for group in groups}
    names = nexus_names(wanted.values())
    return {group: names[name] for group, name in wanted.items()}


def _without_prefix(group: str) -> str:
    for prefix in (LATE_PREFIX, STATIC_PREFIX):
        if group.startswith(prefix):
            # NUL is in no other name, so this one cannot be another group's.
            return group.replace(".", "\0", 1)
    return group


def renamed_notes(declared: Iterable[Declared]) -> list[str]:
    """Return a sentence for each channel, group or device whose name was taken."""
    found: dict[str, None] = {}
    for each in declared:
        for key, kind in (
            ("name", "channel"),
            ("group", "group"),
            ("device", "device"),
        ):
            given, name = getattr(each.original, key), getattr(each.channel, key)
            wanted = nexus_name(given)
            # A lane or device that is only this channel's is told with the channel.
            is_own = key != "name" and given == each.original.name
            if name != wanted and not is_own:
                why = f"as {wanted} is another one"
                found[f"{kind} {given!r} is {name} in files, {why}"] = None
    return [*found]
