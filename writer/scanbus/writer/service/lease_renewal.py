"""Renew the leases of all running attempts together.

Many scans are open for hours without a point. Their attempts sleep; those to which
points come renew their leases themselves, more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final

from scanbus.bus.store import Bus, LoopGuard, renew_leases
from scanbus.writer.service.worker_link import RunningAttempt

__all__ = ["renew_stale"]

# Shares of a lease's duration: one so old has all renewed that have this other age.
_STALE: Final = 0.4
_WITH_IT: Final = 0.2


def renew_stale(
    client: Bus, attempts: Sequence[RunningAttempt], guard: LoopGuard
) -> None:
    """Renew leases that were not renewed of late, with two or three commands.

    Not those of a worker that is silent: one that is suspended loses its leases, like a
    service that is.

    Parameters
    ----------
    client : Bus
        The caller's connection.
    attempts : sequence of RunningAttempt
        The attempts that are running.
    guard : LoopGuard
        Reports an error of one lease, which does not keep others from being renewed.
    """
    kept = [each.authority for each in attempts if not each.link.silence]
    if all(each.age < _STALE for each in kept):
        return
    stale = [each for each in kept if each.age >= _WITH_IT]
    now = monotonic()
    odd = renew_leases(client, [each.lease for each in stale], stale[0].ttl_ms)
    for each in stale:
        with guard.attempt("renew its lease", each.lease.uid):
            if each.lease in odd:
                each.renew(client)
            else:
                each.note_renewed(now)
