"""The command line: which commands there are, and what their errors become.

A user sees one sentence on stderr and an exit code; a traceback is a bug.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

import typer

from scanbus.cli.commands import (
    check,
    close,
    demo,
    ls,
    master_rebuild,
    publish_files,
    publish_resume,
    replay,
    salvage,
    simulate,
    status,
    tail,
    writer,
)
from scanbus.cli.output import print_error
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["app", "run"]

# Typer brings its own copy of click since 0.26 and used the real one before.
_UsageError: type[Exception] = next(
    each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException"
)
# What to install where one of these cannot be imported.
_EXTRAS = {
    "h5py": "writer",
    "hdf5plugin": "writer",
    "fabio": "files",
    "matplotlib": "demo",
    "blosc2": "blosc2",
    "zmq": "zmq",
}

app = typer.Typer(
    name="scanbus",
    help="Acquisition bus on Redis streams, and the NeXus files that come out of it.",
    epilog="Try it: scanbus demo",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
publish = typer.Typer(
    help="Publish what exists already.",
    no_args_is_help=True,
    epilog="Example: scanbus publish files frames/*.cbf --sample lysozyme",
)
master = typer.Typer(
    help="Masters: what readers open, made from what lies below.",
    no_args_is_help=True,
    epilog="Example: scanbus master rebuild --root /data/visitor",
)


def _add(group: typer.Typer, name: str, module: ModuleType) -> None:
    group.command(name, epilog=f"Example: {module.EXAMPLE}")(module.run)


# In the order of the help.
_add(app, "ls", ls)
_add(app, "tail", tail)
_add(app, "status", status)
_add(app, "close", close)
_add(app, "writer", writer)
_add(app, "replay", replay)
_add(app, "check", check)
_add(app, "demo", demo)
_add(app, "simulate", simulate)
_add(app, "salvage", salvage)
_add(publish, "files", publish_files)
_add(publish, "resume", publish_resume)
_add(master, "rebuild", master_rebuild)
app.add_typer(publish, name="publish")
app.add_typer(master, name="master")


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return the exit code of :func:`scanbus.cli.main`."""
    _raise_file_limit()
    command = typer.main.get_command(app)
    arguments = None if argv is None else list(argv)
    try:
        result: Any = command.main(arguments, "scanbus", standalone_mode=False)
    except (ScanbusError, _UsageError, ImportError, OSError) as error:
        return _exit_code_of(error)
    except (KeyboardInterrupt, typer.Abort):
        result = ExitCode.INTERRUPTED
    except SystemExit as stop:  # typer, when the reader of a pipe is gone
        result = stop.code
    if result == ExitCode.INTERRUPTED:
        sentence = "interrupted; what was done so far stands"
        return _complain(sentence, ExitCode.INTERRUPTED)
    return int(result or 0)


def _raise_file_limit() -> None:
    """Allow as many open files as the system allows this process to allow itself.

    Each lane that is written has a file open, and so has each scan; 1024 is the usual
    limit where nobody set one, for programs that watch file numbers with `select`.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # As it was, then.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _exit_code_of(error: Exception) -> ExitCode:
    """Say an error in one sentence and return its exit code; a bug is raised again."""
    if isinstance(error, ScanbusError):
        return _complain(str(error), error.exit_code)
    if isinstance(error, ImportError):
        return _complain(_what_to_install(error), ExitCode.USAGE)
    if isinstance(error, OSError):
        return _complain(_of_file(error), ExitCode.USAGE)
    return _complain_of_usage(error)


def _complain(sentence: str, exit_code: ExitCode) -> ExitCode:
    print_error(sentence)
    return exit_code


def _complain_of_usage(error: Any) -> ExitCode:
    """Print what typer has to say; never its exit code 2, which means partial."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return ExitCode.USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "scanbus"
    message = error.format_message().rstrip(".")
    return _complain(f"{message}. See {command} --help", ExitCode.USAGE)


def _what_to_install(error: ImportError) -> str:
    """Return which extra brings a missing package; what is no extra is a bug."""
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        raise error
    return (
        f"this command needs {package}, which is not installed: "
        f"pip install 'scanbus[{_EXTRAS[package]}]'"
    )


def _of_file(error: OSError) -> str:
    """Return what the system says of a file; an OSError without one is a bug."""
    if error.filename is None:
        raise error
    return f"{error.filename}: {error.strerror}"
