"""Roots of writers, as an operator makes them."""

from pathlib import Path

from scanbus.writer import init_root

__all__ = ["made_root"]


def made_root(folder: Path) -> Path:
    """Make a folder a root, with those above it, whatever is in it; return it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return init_root(folder, existing=True).path
