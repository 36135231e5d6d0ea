"""The models of a site template: what its file may say, and in which form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from scanbus.schemas import Role
from scanbus.schemas.layout_names import LayoutName

__all__ = [
    "KINDS",
    "Channels",
    "Condition",
    "NodeTemplate",
    "Plain",
    "Template",
]

KINDS: Final = ("group", "value", "channel", "metadata", "link", "master")
"""The kinds of nodes: each has exactly one of these keys."""

_Text = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00]*$")]
_Class = Annotated[str, StringConstraints(pattern=r"^(NX[A-Za-z0-9_]{1,60})?$")]
_DtypeName = Literal[
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "bool",
    "string",
]
Plain = str | bool | int | float | list[Any]
"""A value as TOML and JSON have it; lists are of one type."""
_CONFIG: Final = ConfigDict(
    extra="forbid", frozen=True, strict=True, hide_input_in_errors=True
)


class Channels(BaseModel):
    """Which channel a node shows: the first one that has all that is named.

    Attributes
    ----------
    name, device : str
        Pattern of its name and of its device, with ``*`` and ``?``; also of the names
        that its program has for them.
    role : Role
        Its role: ``axis``, ``counter``, ``detector`` and so on.
    ndim : int
        Number of axes of one point: 0 a scalar, 2 a frame.
    """

    model_config = _CONFIG

    name: _Text = "*"
    device: _Text = "*"
    role: Annotated[Role, Field(strict=False)] | None = None
    ndim: Annotated[int, Field(ge=0, le=8)] | None = None


class Condition(BaseModel):
    """What a scan has.

    Attributes
    ----------
    channel : Channels or str
        A channel of it.
    metadata : str
        Something at a path of its NXentry.
    equals : str, int, float or bool
        With `metadata`: the value there.
    """

    model_config = _CONFIG

    channel: Channels | _Text | None = None
    metadata: _Text | None = None
    equals: str | bool | int | float | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Condition:
        if (self.channel is None) == (self.metadata is None):
            raise ValueError("a condition has either channel or metadata")
        if self.equals is not None and self.metadata is None:
            raise ValueError("equals needs metadata, the path that is compared")
        return self


class NodeTemplate(BaseModel):
    """One node; which of the first six it has is its kind.

    Attributes
    ----------
    group : str
        A group of this NeXus class; empty for ``NXcollection``.
    value : str, bool, number or list
        A dataset with this value.
    channel : Channels or str
        The points of a channel, by name or by what it is.
    metadata : str
        What is at this path of the scan's NXentry, such as ``sample/name``.
    link : str
        A soft link to another node of the template, by its path.
    master : str
        An external link to what is at this path of the NXentry in the scan master.
    attributes : mapping
        HDF5 attributes; those of a channel or of metadata stay beside them.
    units : str
        Units; metadata are converted to these.
    dtype : str
        Type of a value or of metadata in the file.
    default : str, bool, number or list
        What is written if the scan has no such metadata.
    required : bool
        Whether the file needs it: without it, it has no definition.
    if_, unless : Condition
        When the node is there; what is below a group that is not there is not either.
    """

    model_config = _CONFIG | ConfigDict(populate_by_name=False)

    group: _Class | None = None
    value: Plain | None = None
    channel: Channels | _Text | None = None
    metadata: _Text | None = None
    link: _Text | None = None
    master: _Text | None = None
    attributes: Mapping[_Text, Plain] = Field(default_factory=dict)
    units: Annotated[str, StringConstraints(max_length=63)] | None = None
    dtype: _DtypeName | None = None
    default: Plain | None = None
    required: bool = False
    if_: Condition | None = Field(default=None, alias="if")
    unless: Condition | None = None

    @property
    def kind(self) -> str:
        """Its kind, one of `KINDS`."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _has_one_kind(self) -> NodeTemplate:
        named = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            found = f"it has {' and '.join(named)}" if named else "it has none"
            raise ValueError(f"a node has one of {', '.join(KINDS)}; {found}")
        kind = named[0]
        for key, kinds in _KINDS_OF.items():
            given = getattr(self, key)
            if given not in (None, False, {}) and kind not in kinds:
                raise ValueError(f"{key} has no meaning for a {kind}; remove it")
        return self


# Of which kinds of nodes a key is.
_KINDS_OF: Final = {
    "attributes": ("group", "value", "channel", "metadata"),
    "units": ("value", "channel", "metadata"),
    "dtype": ("value", "metadata"),
    "default": ("metadata",),
    "required": ("channel", "metadata"),
}


class Template(BaseModel):
    """A layout of a site.

    Attributes
    ----------
    name : str
        Name by which scans ask for it.
    file : str
        Name of its file, with placeholders; with ``{detector}`` one for each.
    summary : str
        What it is for, one sentence.
    nodes : mapping
        The nodes by path, such as ``entry/instrument``.
    """

    model_config = _CONFIG

    name: LayoutName
    file: Annotated[str, StringConstraints(max_length=200)]
    summary: _Text = ""
    nodes: Mapping[str, NodeTemplate]
