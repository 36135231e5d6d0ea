"""What is known of a PV whose values go beside the frames."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from p4p.client.raw import RemoteError

from scanbus.publisher.gateways.runner.messages import (
    NoteArrived,
    SlowChannel,
    ValueArrived,
)
from scanbus.schemas.errors import ConfigurationError
from scanbus.schemas.valid_names import nexus_name

__all__ = ["SlowPv", "channels_of", "wrong_addresses"]

_UNUSABLE = "it is neither a number nor a text"
_MISSING = "the PV was not found"
_SEVERITIES = ("", "MINOR", "MAJOR", "INVALID")
_STATUSES = ("", "DEVICE", "DRIVER", "RECORD", "DB", "CONF", "UNDEFINED", "CLIENT")


def channels_of(given: Iterable[str], detector: str) -> dict[str, str]:
    """Return channel and PV of each ``NAME=PV`` or ``PV``.

    Parameters
    ----------
    detector : str
        Name of the detector, whose channels are that and those that begin with it
        and ``_``: which ones these are, only the first image tells.

    Raises
    ------
    ConfigurationError
        If one is empty, two have one channel, or one may have a channel of the
        detector.

    Examples
    --------
    >>> channels_of(["energy=BL1:MONO:ENERGY", "BL1:Ring:Current"], "detector")
    {'energy': 'BL1:MONO:ENERGY', 'bl1_ring_current': 'BL1:Ring:Current'}
    """
    found: dict[str, str] = {}
    for text in given:
        name, is_named, pv = text.rpartition("=")
        channel = nexus_name(name if is_named else pv.lower())
        if not pv or not channel or channel in found:
            raise ConfigurationError("pv", f"{text!r}: empty, or its channel is taken")
        if channel == detector or channel.startswith(f"{detector}_"):
            reason = (
                f"{text!r}: channels named {detector} and {detector}_… are those of "
                "the detector; give it another name, NAME=PV"
            )
            raise ConfigurationError("pv", reason)
        found[channel] = pv
    return found


def wrong_addresses(error: RuntimeError) -> ConfigurationError:
    """Return the error of an environment from which EPICS reads no addresses."""
    reason = " ".join(str(error).split())
    return ConfigurationError("EPICS_PVA_… (environment)", reason)


@dataclass(slots=True)
class SlowPv:
    """A PV, what it says, and whether it is there.

    Attributes
    ----------
    channel, pv : str
        Name of the channel in scans, and of the PV.
    value, time, units :
        What it said last.
    is_there : bool
        Whether it is connected.
    severity, status : str
        The alarm of its last value; empty without one.
    trouble : str
        Why it has no values, until it has one.
    """

    channel: str
    pv: str
    value: float | str | None = None
    time: float | None = None
    units: str = ""
    is_there: bool = False
    severity: str = ""
    status: str = ""
    trouble: str = _MISSING

    @property
    def is_missing(self) -> bool:
        """Whether no IOC was found that has it."""
        return self.trouble == _MISSING

    def update(self, found: Any, now: float) -> ValueArrived | None:
        """Take a new value, or a disconnection; return what is to be sent.

        Parameters
        ----------
        found : p4p.Value or Exception
            What the subscription gave.
        now : float
            In seconds since 1970.
        """
        if isinstance(found, Exception):
            was_there, self.is_there = self.is_there, False
            if isinstance(found, RemoteError):
                self.trouble = f"its server refuses to send it ({found})"
            return ValueArrived(self.channel, None, now) if was_there else None
        self.is_there = True
        try:
            value = plain_value(found.get("value"))
            taken, alarm = _time(found), _alarm(found)
            display = found.get("display")
            units = self.units if display is None else str(display.get("units", ""))
        except (AttributeError, TypeError, ValueError):
            self.trouble = _UNUSABLE  # Of another kind: a server may send any.
            return None
        if value is None:
            self.trouble = _UNUSABLE
            return None
        self.value, self.trouble = value, ""
        self.time = taken or now
        self.severity, self.status = alarm
        self.units = units
        return ValueArrived(self.channel, value, self.time)

    def note(self, *, was_there: bool) -> NoteArrived | None:
        """Return what readers should know if it went or came back."""
        if was_there == self.is_there or (self.is_there and self.value is None):
            return None
        if not self.is_there:
            return NoteArrived(f"PV {self.pv} is disconnected")
        alarm = f": {self.severity} ({self.status})" if self.severity else ""
        return NoteArrived(f"PV {self.pv} is connected{alarm}")

    def at_start(self, now: float, stale_s: float | None) -> SlowChannel:
        """Return the channel for a series that begins now.

        Parameters
        ----------
        stale_s : float, optional
            Age beyond which its value counts as stale, in seconds.
        """
        age_s = None if self.time is None else max(0.0, now - self.time)
        return SlowChannel(
            self.channel,
            self.pv,
            self.value,
            self.time,
            age_s,
            self._why_stale(age_s, stale_s),
            self.units,
            isinstance(self.value, str),
            self.severity,
            self.status,
        )

    def _why_stale(self, age_s: float | None, stale_s: float | None) -> str:
        if self.value is None:
            return self.trouble
        if not self.is_there:
            return "the PV was disconnected"
        if self.severity == "INVALID":
            return "the severity was INVALID"
        if stale_s is not None and age_s is not None and age_s > stale_s:
            return f"it was older than {stale_s:g} s"
        return ""


def plain_value(found: Any) -> float | str | None:
    """Return a scalar as a float or text; the choice of an enumeration; else None."""
    if isinstance(found, str):
        return found
    if isinstance(found, bool | int | float):
        return float(found)
    choices = getattr(found, "choices", None)
    if choices is None:
        return None
    index = int(found.index)
    return str(choices[index]) if 0 <= index < len(choices) else str(index)


def _time(found: Any) -> float | None:
    stamp = found.get("timeStamp")
    if stamp is None or stamp.secondsPastEpoch <= 0:
        return None
    seconds = float(stamp.secondsPastEpoch + stamp.nanoseconds / 1e9)
    return seconds if math.isfinite(seconds) else None


def _alarm(found: Any) -> tuple[str, str]:
    """Return severity and status of a value; both are empty without an alarm."""
    alarm = found.get("alarm")
    severity = 0 if alarm is None else int(alarm.severity)
    if alarm is None or severity <= 0:
        return "", ""
    status = int(alarm.status)
    named = _STATUSES[status] if 0 <= status < len(_STATUSES) else str(status)
    return _SEVERITIES[min(severity, 3)], str(alarm.message) or named or "no status"
