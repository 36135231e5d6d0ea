"""Parse the text of a site template, and say what is wrong with it in one sentence."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from scanbus.schemas.errors import LayoutError
from scanbus.schemas.wording import problem_text
from scanbus.writer.layouts.site.checks import checked
from scanbus.writer.layouts.site.template import KINDS, NodeTemplate, Template

__all__ = ["MAX_TEXT_BYTES", "as_template", "canonical", "parse_stored", "parse_text"]

MAX_TEXT_BYTES: Final = 2**20
"""Largest template, in bytes of UTF-8: each scan file that has it keeps it."""
_SHOWN: Final = 80


class _RepeatedKeyError(ValueError):
    """A key that stands twice in one object of JSON."""


def parse_text(where: str, text: str, *, is_toml: bool) -> dict[str, Any]:
    """Return the object that a text of TOML or JSON is.

    Parameters
    ----------
    where : str
        Name of the file, for errors.

    Raises
    ------
    LayoutError
        If it is too large, or no such object.
    """
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        reason = f"the template is larger than {MAX_TEXT_BYTES} bytes"
        raise LayoutError(where, reason)
    language = "TOML" if is_toml else "JSON"
    try:
        if is_toml:
            found: Any = tomllib.loads(text)
        else:
            found = json.loads(text, object_pairs_hook=_pairs, parse_constant=_refuse)
    except _RepeatedKeyError as error:
        raise LayoutError(where, str(error)) from None
    except RecursionError:
        raise LayoutError(where, "its parts are nested too deeply") from None
    except ValueError as error:
        reason = str(error).partition("\n")[0][:_SHOWN]
        raise LayoutError(where, f"it is no {language}: {reason}") from None
    if not isinstance(found, dict):
        raise LayoutError(where, "it is no object with name, file and nodes")
    return found


def as_template(where: str, found: Mapping[str, Any]) -> Template:
    """Return a checked template.

    Raises
    ------
    LayoutError
        If anything in it is wrong; names the node.
    """
    try:
        template = Template.model_validate(found)
    except ValidationError as error:
        raise LayoutError(where, _sentence(error)) from None
    except RecursionError:
        raise LayoutError(where, "its parts are nested too deeply") from None
    # The nodes first: what is wrong is said of one of them, if it is there.
    for path, part in (*template.nodes.items(), ("", template)):
        try:
            part.model_dump_json()
        except ValueError:
            place = f"node {path}: " if path else ""
            reason = "a text has half of a surrogate pair, which is no character"
            raise LayoutError(where, f"{place}{reason}") from None
    return checked(where, template)


def canonical(template: Template) -> str:
    """Return the text of a template that scan files keep, as JSON."""
    found = template.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps(found)


@lru_cache(maxsize=64)
def parse_stored(name: str, text: str) -> Template:
    """Return the template that a scan file or a setting has as JSON.

    Parameters
    ----------
    name : str
        Name of the layout under which the text stands.

    Raises
    ------
    LayoutError
        If the text is no template, or one of another name.
    """
    template = as_template(name, parse_text(name, text, is_toml=False))
    if template.name != name:
        raise LayoutError(name, f"its template is that of layout {template.name}")
    return template


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKeyError(f"{key[:_SHOWN]} stands twice in one object")
        found[key] = value
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _sentence(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    # An unknown key explains why another one is missing.
    problem = min(problems, key=lambda each: each["type"] != "extra_forbidden")
    where = [str(part)[:_SHOWN] for part in problem["loc"]]
    if len(where) > 1 and where[0] == "nodes":
        place, keys = f"node {where[1]}", where[2:]
    else:
        place, keys = "", where
    key = keys[0] if keys else ""
    if problem["type"] == "extra_forbidden":
        key = keys[-1]
        known = _known(len(keys), in_node=bool(place))
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {_listed(known)}"
        return f"{place}{': ' if place else ''}{key} is unknown{hint}"
    said = f"{key}: {problem_text(problem)}" if key else problem_text(problem)
    if key == "name" and not place:
        said = "name: lower-case letters, digits and underscores, as bm99_tomo"
    return f"{place}: {said}" if place else said


def _known(depth: int, *, in_node: bool) -> list[str]:
    if not in_node:
        return list(Template.model_fields)
    if depth > 1:
        return ["channel", "metadata", "equals", "name", "device", "role", "ndim"]
    others = [field.alias or key for key, field in NodeTemplate.model_fields.items()]
    return [*KINDS, *(each for each in others if each not in KINDS)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
