"""Which layouts a scan is written in, besides ESRF's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

__all__ = ["ESRF", "LayoutChoice"]

ESRF: Final = "esrf"
"""The layout of the scan master, which every scan has."""


@dataclass(frozen=True)
class LayoutChoice:
    """The layouts of one scan's files, and what they show.

    Attributes
    ----------
    names : tuple of str
        Names of profiles, in the order in which they were asked for.
    templates : mapping
        The text of each site template, as JSON, by the profile's name: masters that are
        rebuilt years later are made of the same.
    with_users : bool
        Whether NXuser groups of the metadata (personal data) are written.
    is_binding : bool
        Whether a scan has these layouts whatever it asks for.
    """

    names: tuple[str, ...] = ()
    templates: Mapping[str, str] = field(default_factory=dict)
    with_users: bool = False
    is_binding: bool = False

    def chosen(self, wanted: Sequence[str]) -> Self:
        """Return the choice for a scan that asks for layouts; all if it asks for none.

        Examples
        --------
        >>> LayoutChoice(("nxmx",)).chosen(()).names
        ('nxmx',)
        >>> LayoutChoice(("nxmx",)).chosen(("esrf", "nxtomo")).names
        ('nxtomo',)
        """
        if self.is_binding or not wanted:
            wanted = self.names
        names = tuple(dict.fromkeys(wanted))
        kept = {name: self.templates[name] for name in names if name in self.templates}
        extra = tuple(name for name in names if name != ESRF)
        return type(self)(extra, kept, self.with_users)

    def to_json(self) -> str:
        """Return it as text, for the scan file."""
        found = {
            "layouts": list(self.names),
            "templates": dict(self.templates),
            "users": self.with_users,
        }
        return json.dumps(found)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the choice that a scan file has.

        Raises
        ------
        ValueError
            If the text is not one of `to_json`.
        """
        found: Any = json.loads(text)
        try:
            names, templates = found["layouts"], found["templates"]
            is_right = isinstance(names, list) and isinstance(templates, dict)
            if not is_right or not all(isinstance(name, str) for name in names):
                raise ValueError("the layouts are no list of names")
            texts = {str(name): str(text) for name, text in templates.items()}
            return cls(tuple(names), texts, found["users"] is True)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no choice of layouts: {error}") from error
