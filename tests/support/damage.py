"""Damage to files, by a description that hypothesis can draw and a log can show."""

from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

__all__ = ["DAMAGE", "Damage", "inflict"]

PAGE = 4096


class Damage(NamedTuple):
    """What happens to one of some files, at which part of its length."""

    kind: str
    file: int
    at: float
    nbytes: int


KINDS = ("flip", "zero", "zero page", "remove", "insert", "cut", "unlink")
DAMAGE = st.builds(
    Damage,
    st.sampled_from(KINDS),
    st.integers(0, 50),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 300),
)


def inflict(damage: Damage, paths: list[Path]) -> Path:
    """Damage one of these files, and return which."""
    path = paths[damage.file % len(paths)]
    if damage.kind == "unlink":
        path.unlink(missing_ok=True)
    elif path.exists():
        path.write_bytes(_damaged(damage, bytearray(path.read_bytes())))
    return path


def _damaged(damage: Damage, data: bytearray) -> bytearray:
    at = int(damage.at * len(data))
    stop = min(at + damage.nbytes, len(data))
    match damage.kind:
        case "flip" if data:
            data[at] ^= 1 << damage.nbytes % 8
        case "zero":
            data[at:stop] = bytes(stop - at)
        case "zero page":
            start = at // PAGE * PAGE
            stop = min(start + PAGE, len(data))
            data[start:stop] = bytes(stop - start)
        case "remove":
            del data[at:stop]
        case "insert":
            data[at:at] = bytes(range(256)) * 2
        case "cut":
            del data[at:]
    return data
