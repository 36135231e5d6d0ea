"""Read the files of site templates, once per process.

They are kept as text of the settings and of each scan file: what becomes of the site's
file later is of no matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scanbus.schemas.errors import ConfigurationError, LayoutError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.layouts.profiles import PROFILES, find_profile
from scanbus.writer.layouts.site import MAX_TEXT_BYTES, ReadTemplate, read_template
from scanbus.writer.layouts.site.parse import canonical
from scanbus.writer.model.layout_choice import ESRF, LayoutChoice
from scanbus.writer.settings import WriterSettings

__all__ = ["choice_of", "read_file", "read_templates", "with_templates"]

log = get_logger()


def read_file(path: Path) -> ReadTemplate:
    """Return the template in a file.

    Raises
    ------
    LayoutError
        If it cannot be read, or anything in it is wrong.
    """
    found = b""
    try:
        if not path.is_file():
            raise LayoutError(path.name, f"{path} is no file; give that of a template")
        with path.open("rb") as file:
            found = file.read(MAX_TEXT_BYTES + 1)
        text = found.decode("utf-8-sig")
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror or error})"
        raise LayoutError(path.name, reason) from error
    except UnicodeDecodeError as error:
        if len(found) > MAX_TEXT_BYTES:  # It may be cut within a letter.
            reason = f"the template is larger than {MAX_TEXT_BYTES} bytes"
            raise LayoutError(path.name, reason) from error
        raise LayoutError(path.name, "it is no text of UTF-8") from error
    read = read_template(path.name, text)
    if read.template.name in PROFILES:
        reason = f"{read.template.name} is a layout of scanbus; rename it"
        raise LayoutError(path.name, reason)
    return read


def read_templates(paths: Iterable[Path]) -> dict[str, str]:
    """Return the text of the template in each file, by the name of its layout.

    What a ``nexus_structure`` has without a counterpart is logged.

    Raises
    ------
    LayoutError
        If one is wrong, or two have one name.
    """
    found: dict[str, str] = {}
    files: dict[str, Path] = {}
    for path in paths:
        read = read_file(path)
        name, text = read.template.name, canonical(read.template)
        if len(text.encode()) > MAX_TEXT_BYTES:
            reason = f"the template is larger than {MAX_TEXT_BYTES} bytes"
            raise LayoutError(path.name, reason)
        if name in found:
            reason = f"layout {name} is also that of {files[name]}; rename one"
            raise LayoutError(path.name, reason)
        for message in read.messages:
            log.warning(LogEvent.TEMPLATE_PART_LEFT_OUT, file=str(path), part=message)
        found[name], files[name] = text, path
    return found


def choice_of(
    names: Sequence[str], templates: Mapping[str, str], *, with_users: bool = False
) -> LayoutChoice:
    """Return layouts that a user asks for, each of which must exist.

    Raises
    ------
    LayoutError
        If there is no such layout.
    """
    choice = LayoutChoice(tuple(names), templates, with_users, bool(names))
    for name in names:
        if name != ESRF:
            find_profile(name, choice)
    return choice


def with_templates(settings: WriterSettings) -> WriterSettings:
    """Return settings with the texts of their templates.

    Raises
    ------
    ConfigurationError
        If a template is wrong, or one of the layouts does not exist.
    """
    try:
        texts = read_templates(settings.templates)
    except LayoutError as error:
        raise ConfigurationError("templates", str(error)) from error
    try:
        choice_of(settings.layouts, texts)
    except LayoutError as error:
        raise ConfigurationError("layouts", str(error)) from error
    return settings.with_template_texts(texts)
