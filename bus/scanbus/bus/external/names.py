"""Names of files and datasets as mappings of virtual datasets have them. Pure.

In these names HDF5 reads ``%b`` as the number of a block and ``%%`` as a percent sign,
and refuses every other one: https://docs.hdfgroup.org, `H5Pset_virtual`.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["literal_name", "mapped_name"]

_PERCENT: Final = re.compile(r"%(.?)", re.DOTALL)


def mapped_name(name: str) -> str:
    """Return how a mapping has to write a name, so that HDF5 takes it literally.

    Examples
    --------
    >>> mapped_name("/data/100%b/a.h5"), literal_name("/data/100%%b/a.h5")
    ('/data/100%%b/a.h5', '/data/100%b/a.h5')
    """
    return name.replace("%", "%%")


def literal_name(name: str) -> str | None:
    """Return the only name that a mapping stands for; None if it is a pattern.

    Examples
    --------
    >>> literal_name("/data/part_%b.h5") is None
    True
    """
    if any(each != "%" for each in _PERCENT.findall(name)):
        return None
    return name.replace("%%", "%")
