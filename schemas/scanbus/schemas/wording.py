"""Words for people: of numbers, and of values that pydantic refuses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["counted", "problem_place", "problem_text"]

# What pydantic says, and how we say it.
_OURS = {
    "Value error, ": "",
    "Input should be": "must be",
    "String should": "the text must",
    "Field required": "is missing",
    "Extra inputs are not permitted": "is unknown",
}


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one.

    Examples
    --------
    >>> counted(1, "problem"), counted(0, "frame"), counted(2, "entry")
    ('1 problem', '0 frames', '2 entries')
    """
    if number == 1:
        return f"1 {noun}"
    for ending, plural in (("y", "ies"), ("xis", "xes")):
        if noun.endswith(ending):
            return f"{number} {noun.removesuffix(ending)}{plural}"
    return f"{number} {noun}s"


def problem_text(problem: Mapping[str, Any]) -> str:
    """Return what is wrong with a value, by the details of a pydantic error.

    Parameters
    ----------
    problem : mapping
        With ``type``, ``msg``, ``loc`` and perhaps ``ctx``.

    Examples
    --------
    >>> problem_text(
    ...     {
    ...         "type": "too_long",
    ...         "loc": ("shape",),
    ...         "msg": "",
    ...         "ctx": {"max_length": 5, "actual_length": 6},
    ...     }
    ... )
    '6 axes, where at most 5 are possible'
    >>> problem_text(
    ...     {
    ...         "type": "greater_than",
    ...         "loc": ("points",),
    ...         "msg": "Input should be greater than 0",
    ...     }
    ... )
    'must be greater than 0'
    """
    kind, message = str(problem["type"]), str(problem["msg"])
    context = problem.get("ctx") or {}
    if kind in {"too_long", "too_short"} and "actual_length" in context:
        noun = "axis" if problem["loc"][-1:] == ("shape",) else "entry"
        found = counted(int(context["actual_length"]), noun)
        if kind == "too_long":
            return f"{found}, where at most {context['max_length']} are possible"
        return f"{found}, where at least {context['min_length']} must be"
    if kind == "string_pattern_mismatch":
        return "a name has letters, digits, _ and inner dots or hyphens only"
    if kind.endswith(("_parsing", "_from_float")):
        message = message.partition(",")[0]
    for pydantic, ours in _OURS.items():
        message = message.replace(pydantic, ours)
    return message


def problem_place(problem: Mapping[str, Any]) -> str:
    """Return which value it is.

    Examples
    --------
    >>> problem_place({"loc": ("shape", 0)})
    'shape[0]'
    >>> problem_place({"loc": ("fill_value", "constrained-int")})
    'fill_value'
    """
    place = ""
    for part in problem["loc"]:
        if isinstance(part, int):
            place += f"[{part}]"
        elif str(part).isidentifier():
            place += f".{part}" if place else str(part)
    return place
