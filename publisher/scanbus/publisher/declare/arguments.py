"""Convert a program's arguments into checked documents.

Programs pass numbers, pairs, numpy arrays and dicts. Here they become the documents of
``scanbus.schemas``; an invalid argument becomes an error of one sentence. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from pydantic import ValidationError

from scanbus.bus.codecs import find_codec
from scanbus.publisher.declare.json_text import key_text
from scanbus.publisher.declare.lane_plan import Declared, OriginalNames
from scanbus.publisher.declare.nexus_hints import split_hints
from scanbus.schemas import (
    ChannelDescription,
    FrameDescription,
    Role,
    ScanEnded,
    ScanPrepared,
    ScanUpdated,
    Storage,
)
from scanbus.schemas.documents import check_size
from scanbus.schemas.errors import DeclarationError, DocumentError
from scanbus.schemas.frame_references import MAX_URL_BYTES, REFERENCE_CODEC
from scanbus.schemas.valid_names import nexus_name, plain_text
from scanbus.schemas.wording import problem_place, problem_text

__all__ = [
    "checked",
    "declare_channel",
    "declare_detector",
    "declare_reference",
    "sendable",
]

# A name for people is cut; units that are cut would be others, and are refused.
_TEXT_LIMITS = {"units": 1024, "display_name": 255}
_P = ParamSpec("_P")
_T = TypeVar("_T")
_Document = TypeVar("_Document", ScanEnded, ScanPrepared, ScanUpdated)


def checked(make: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return ``make(...)``; a validation error of pydantic becomes one sentence.

    Raises
    ------
    DeclarationError
        If an argument is invalid; it names the first one.
    """
    try:
        return make(*args, **kwargs)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        got = f", got {problem['input']!r:.80}" if problem["loc"] else ""
        message = f"{problem_text(problem)}{got}"
        raise DeclarationError(problem_place(problem), message) from error


def sendable(
    make: Callable[_P, _Document], /, *args: _P.args, **kwargs: _P.kwargs
) -> _Document:
    """Return the document ``make(...)``, which fits the bounds of a document.

    Checked where the program calls, as the threads that send it cannot refuse it.

    Raises
    ------
    DeclarationError
        If an argument is invalid, or the document too large.
    """
    document = checked(make, *args, **kwargs)
    try:
        check_size(document.to_json(), document.type)
    except DocumentError as error:
        raise DeclarationError(error.kind, error.reason) from error
    except ValueError as error:  # of pydantic's serializer
        reason = f"it holds text that is not Unicode: {error}"
        raise DeclarationError(document.type, reason) from error
    return document


def declare_channel(name: str, **described: Any) -> Declared:
    """Return a channel of small values.

    Raises
    ------
    ValueError
        If the description is inconsistent.
    UnknownCodecError
        If there is no such codec.
    """
    original = _original_names(name, described)
    described["nexus"], fields = split_hints(described.get("nexus"))
    channel = checked(ChannelDescription, **_valid_names(original), **_given(described))
    find_codec(channel.codec)
    return Declared(channel, original, Storage.VALUES, fields=fields)


def declare_detector(
    name: str, *, points_per_chunk: int | None = None, **described: Any
) -> Declared:
    """Return a detector channel, which has its own lane and data files.

    Raises
    ------
    ValueError
        If the description is inconsistent.
    UnknownCodecError
        If there is no such codec.
    """
    if points_per_chunk is not None and points_per_chunk < 1:
        raise ValueError(f"{name}: points_per_chunk must be positive")
    original = _original_names(name, described)
    described["nexus"], fields = split_hints(described.get("nexus"))
    channel = checked(
        ChannelDescription,
        role=Role.DETECTOR,
        **_valid_names(original),
        **_given(described),
    )
    if channel.is_variable:
        raise ValueError(f"{name}: a detector's frames have a fixed shape")
    find_codec(channel.codec)
    return Declared(channel, original, Storage.FILES, points_per_chunk, fields)


def declare_reference(
    name: str, *, shape: tuple[int, ...], dtype: Any, **described: Any
) -> Declared:
    """Return a detector whose frames stand in files that it writes itself.

    Raises
    ------
    ValueError
        If the description is inconsistent.
    """
    original = _original_names(name, described)
    described["nexus"], fields = split_hints(described.get("nexus"))
    frames = checked(
        FrameDescription.model_validate, {"dtype": _dtype_name(dtype), "shape": shape}
    )
    channel = checked(
        ChannelDescription,
        role=Role.DETECTOR,
        **_valid_names(original),
        **_given(described),
        dtype="string",
        codec=REFERENCE_CODEC,
        max_point_bytes=MAX_URL_BYTES,
        frames=frames,
    )
    return Declared(channel, original, Storage.VALUES, fields=fields)


def _original_names(name: Any, described: dict[str, Any]) -> OriginalNames:
    """Return the names that a program gives, and take them out of what it describes."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a channel is text, got {name!r:.80}")
    group, device = described.pop("group", None), described.pop("device", None)
    return OriginalNames(
        str.__str__(name), key_text(group or name), key_text(device or name)
    )


def _valid_names(original: OriginalNames) -> dict[str, str]:
    """Return names that are valid, though others of the scan may get them, too."""
    return {
        "name": nexus_name(original.name),
        "group": nexus_name(original.group),
        "device": nexus_name(original.device),
    }


def _given(described: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in described.items() if value is not None}
    for key, limit in _TEXT_LIMITS.items():
        if key in given:
            given[key] = plain_text(key_text(given[key]), limit)
    if "dtype" in given:
        given["dtype"] = _dtype_name(given["dtype"])
    return given


def _dtype_name(dtype: Any) -> str:
    """Return the name of a dtype given as a name, a numpy type or ``str``."""
    if dtype is str or dtype in ("str", "string"):
        return "string"
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        return str(dtype)  # The description rejects it and lists the valid ones.
