"""Translate between keys of ICAT and NeXus trees, both ways and without loss.

ICAT knows a dataset by flat keys with text (``InstrumentSource_current``), a file by a
tree (``instrument/source/current`` with units). The definitions of ESRF, in the package
icat-esrf-definitions, say which key is which field. Trees are those of
:mod:`scanbus.schemas.metadata`: ``@NX_class`` and ``field@units`` are attributes. What
has no counterpart is named, and the rest is translated. Pure, but for loading that
package when it is first needed: it is the optional extra ``scanbus[icat]``.

References
----------
https://icat-esrf-definitions.readthedocs.io
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from pydantic import ValidationError

from scanbus.schemas.errors import IcatMessageError
from scanbus.writer.layouts.common.conversions import is_computable_unit

__all__ = ["Mirrored", "icat_from_nexus", "nexus_from_icat", "technique_names"]

# What the definitions require of every dataset; texts that stand in while a part of one
# is translated.
_STAND_INS: Final = {
    ("title",): "-",
    ("proposal",): "-",
    ("folder_path",): "/",
    ("start_time",): "1970-01-01T00:00:00+00:00",
    ("end_time",): "1970-01-01T00:00:00+00:00",
    ("sample", "name"): "-",
}
_STAND_IN_KEYS: Final = {
    "datasetName": ("title",),
    "proposal": ("proposal",),
    "location": ("folder_path",),
    "startDate": ("start_time",),
    "endDate": ("end_time",),
    "Sample_name": ("sample", "name"),
}
_STAND_INS_BY_KEY: Final = {
    key: _STAND_INS[path] for key, path in _STAND_IN_KEYS.items()
}
# The definitions write these and do not read them.
_NOT_FINITE: Final = ("nan", "inf", "-inf")
# Each round takes out all that is wrong; a part may be found wrong only then.
_MAX_ROUNDS: Final = 50
# What the definitions raise for values that they do not foresee.
_REFUSED: Final = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    AssertionError,
)


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What was translated, and what was not.

    Attributes
    ----------
    values : dict
        A NeXus tree, or text by key of ICAT.
    unknown : tuple of str
        Keys, or paths in the tree, that the definitions do not have.
    problems : tuple of str
        A sentence for each value that is not what the definitions want.
    """

    values: dict[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def nexus_from_icat(parameters: Mapping[str, Any]) -> Mirrored:
    """Return keys of ICAT as the metadata tree of a scan.

    Parameters
    ----------
    parameters : mapping
        Values by key of ICAT: text as ICAT has it, or numbers, booleans and lists.

    Raises
    ------
    ImportError
        If icat-esrf-definitions is not installed.
    """
    model = _model()
    data = {key: value for key, value in parameters.items() if value is not None}
    given = {_STAND_IN_KEYS[key] for key in data if key in _STAND_IN_KEYS}
    problems: list[str] = []
    known = _fields()
    unknown = [str(key) for key in data if key not in known]
    data = {key: value for key, value in data.items() if key in known}
    data = {**_STAND_INS_BY_KEY, **data}
    for _ in range(_MAX_ROUNDS):
        try:
            with _warnings_into(problems):
                tree = model.from_icat_dict(data).to_nexus_dict()
        except ValidationError as error:
            for key, reason in _refused_keys(model, error, data).items():
                problems.append(f"{key}: {reason}")
                del data[key]
                if key in _STAND_IN_KEYS:
                    given.discard(_STAND_IN_KEYS[key])
                    data[key] = _STAND_INS_BY_KEY[key]
        except _REFUSED as error:
            _take_what_breaks(
                model.from_icat_dict, _STAND_INS_BY_KEY, data, error, problems
            )
            for key in _STAND_IN_KEYS.keys() - data.keys():
                given.discard(_STAND_IN_KEYS[key])
                data[key] = _STAND_INS_BY_KEY[key]
        else:
            for path in _STAND_INS.keys() - given:
                _take_out(tree, path)
            return Mirrored(_pruned(tree), tuple(unknown), tuple(problems))
    raise IcatMessageError("these keys", "; ".join(problems))


def icat_from_nexus(tree: Mapping[str, Any]) -> Mirrored:
    """Return a metadata tree as keys of ICAT, all values as text.

    Parameters
    ----------
    tree : mapping
        As :mod:`scanbus.schemas.metadata` describes it. Values are converted to the
        units of ICAT; a value without units has them already.

    Raises
    ------
    ImportError
        If icat-esrf-definitions is not installed.
    """
    model = _model()
    data = _without_nulls(deepcopy(dict(tree)))
    given = {path for path in _STAND_INS if _has(data, path)}
    unknown: list[str] = []
    problems: list[str] = []
    _take_out_endless(data, "", problems)
    for _ in range(_MAX_ROUNDS):
        for path in _STAND_INS:
            if not _has(data, path):
                given.discard(path)
                _put(data, path, _STAND_INS[path])
        try:
            with _warnings_into(problems):
                values = model.from_nexus_dict(data).to_icat_dict()
        except ValidationError as error:
            _take_refused(data, error, unknown, problems)
        except _REFUSED as error:
            alone: dict[str, Any] = {}
            for path, text in _STAND_INS.items():
                _put(alone, path, text)
            _take_what_breaks(model.from_nexus_dict, alone, data, error, problems)
        else:
            texts = {
                key: text
                for key, text in values.items()
                if text != ""
                and _STAND_IN_KEYS.get(key) not in _STAND_INS.keys() - given
            }
            odd = {
                key: text
                for key, text in texts.items()
                if text in _NOT_FINITE and _fields()[key].nexus_type != "NX_CHAR"
            }
            problems += [f"{key}: {odd[key]} is no number of ICAT" for key in odd]
            kept = {key: text for key, text in texts.items() if key not in odd}
            return Mirrored(kept, tuple(unknown), tuple(problems))
    raise IcatMessageError("this tree", "; ".join(problems))


def _take_out_endless(tree: dict[str, Any], where: str, problems: list[str]) -> None:
    """Take out values whose units pint would compute for ever, as 9**9**9."""
    for key, value in list(tree.items()):
        if isinstance(value, dict):
            _take_out_endless(value, f"{where}{key}/", problems)
        if not key.endswith("@units") or not isinstance(value, str):
            continue
        has_power = "**" in value or "^" in value
        if has_power and not is_computable_unit(value):
            field = key.removesuffix("@units")
            tree.pop(key)
            tree.pop(field, None)
            problems.append(f"{where}{field}: {value[:40]!r} are no units")


@cache
def technique_names() -> frozenset[str]:
    """Return the names of the techniques that have keys of their own, in capitals.

    Examples
    --------
    >>> sorted(technique_names())[:3]  # doctest: +SKIP
    ['BCDI', 'EM', 'FLUO']
    """
    roots = (each.nexus_location[0] for each in _fields().values())
    return frozenset(name for name in roots if name.isupper())


@cache
def _fields() -> Mapping[str, Any]:
    """Return what the definitions say of each key: they make it anew in 40 ms."""
    fields: Mapping[str, Any] = _model().icat_fields()
    return fields


@cache
def _model() -> Any:
    """Return ESRF's model of a dataset's parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from icat_esrf_definitions.models import (  # noqa: PLC0415 - optional, slow
            IcatDatasetParameters,
        )
    return IcatDatasetParameters


@contextmanager
def _warnings_into(problems: list[str]) -> Iterator[None]:
    """Make sentences of the warnings of the definitions: they are about the values."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        sentence = " ".join(str(each.message).split())
        if sentence not in problems:
            problems.append(sentence)


def _refused_keys(
    model: Any, error: ValidationError, data: Mapping[str, Any]
) -> dict[str, str]:
    """Return the keys whose values are refused, and why.

    Raises
    ------
    IcatMessageError
        If none of them is refused alone, and the definitions name none.
    """
    try:
        named = model.icat_field_names_with_validation_error(error)
    except _REFUSED:
        # They stumble over attributes that are fields of ICAT, as of SAXS.
        named = ()
    keys = [key for key in named if key in data]
    if not keys:
        keys = [
            key
            for key, value in data.items()
            if _why_refused(model.from_icat_dict, {**_STAND_INS_BY_KEY, key: value})
            is not None
        ]
    if not keys:
        raise IcatMessageError("these keys", _first_line(error)) from error
    messages = [str(each["msg"]) for each in error.errors()]
    if len(keys) == len(messages):
        return dict(zip(keys, messages, strict=True))
    return dict.fromkeys(keys, "; ".join(messages))


def _why_refused(
    translate: Callable[[dict[str, Any]], Any], data: dict[str, Any]
) -> Exception | None:
    """Return how the definitions refuse data, or None if they take them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            translate(data)
    except _REFUSED as error:
        return error
    return None


def _take_what_breaks(
    translate: Callable[[dict[str, Any]], Any],
    alone: Mapping[str, Any],
    data: dict[str, Any],
    error: Exception,
    problems: list[str],
) -> None:
    """Take out what the definitions stumble over, instead of refusing it.

    Raises
    ------
    IcatMessageError
        If nothing of it does that alone.
    """
    broken = {}
    for key, value in data.items():
        found = _why_refused(translate, {**alone, key: value})
        if found is not None and not isinstance(found, ValidationError):
            broken[key] = _first_line(found)  # Others are named elsewhere.
    if not broken:
        raise IcatMessageError("these metadata", _first_line(error)) from error
    for key, reason in broken.items():
        problems.append(f"{key}: the definitions of ICAT cannot take it ({reason})")
        del data[key]


def _take_refused(
    data: dict[str, Any],
    error: ValidationError,
    unknown: list[str],
    problems: list[str],
) -> None:
    """Take what is wrong out of a tree, and say why."""
    taken = set()
    for each in error.errors():
        path = _deepest(data, each["loc"])
        if not path:
            raise IcatMessageError("this tree", str(each["msg"])) from error
        if path in taken:
            continue
        taken.add(path)
        where = "/".join(path)
        if each["type"] == "extra_forbidden":
            # An attribute goes with its field, and a field with its attributes.
            if "@" not in path[-1]:
                unknown.append(where)
        else:
            problems.append(f"{where}: {each['msg']}")
    for path in taken:
        _take_out(data, path)


def _deepest(
    data: Mapping[str, Any], location: tuple[int | str, ...]
) -> tuple[str, ...]:
    """Return the path of what an error is about, as far as the tree has it."""
    found: list[str] = []
    group: Any = data
    for name in location:
        if not isinstance(group, Mapping) or name not in group:
            break
        found.append(str(name))
        group = group[name]
    return tuple(found)


def _has(data: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    return _deepest(data, path) == path


def _put(data: dict[str, Any], path: tuple[str, ...], text: str) -> None:
    for name in path[:-1]:
        if not isinstance(data.get(name), dict):
            data[name] = {}
        data = data[name]
    data[path[-1]] = text


def _take_out(data: dict[str, Any], path: tuple[str, ...]) -> None:
    """Remove a field with its attributes, or a group."""
    for name in path[:-1]:
        found = data.get(name)
        if not isinstance(found, dict):
            return
        data = found
    data.pop(path[-1], None)
    for key in [key for key in data if key.startswith(f"{path[-1]}@")]:
        del data[key]


def _pruned(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a tree without groups that have nothing but a class."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        kept = _pruned(value) if isinstance(value, dict) else value
        if not isinstance(kept, dict) or kept.keys() - {"@NX_class"}:
            found[key] = kept
    return found


def _without_nulls(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a tree without what was withdrawn."""
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if value is not None
    }


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
