"""Error numbers of the system, also in errors of HDF5. Loads no HDF5."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["errno_of"]

_ERRNO: Final = re.compile(r"errno = (\d+)")


def errno_of(error: BaseException) -> int | None:
    """Return the errno of an error or its cause; HDF5 gives it in the text only."""
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number
    found = _ERRNO.search(str(error))
    if found:
        return int(found[1])
    return errno_of(error.__cause__) if error.__cause__ is not None else None
