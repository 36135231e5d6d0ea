"""The command line: the list of commands, and the handling of their errors.

A user gets one sentence on stderr and an exit code; a traceback is a bug.
"""

from __future__ import annotations

import io
import os
import re
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

import typer

from scanbus.cli.commands import (
    amend,
    check,
    close,
    convert,
    demo,
    icat_pending,
    icat_send,
    icat_watch,
    layout,
    ls,
    master_rebuild,
    publish_dectris,
    publish_files,
    publish_pva,
    publish_resume,
    publish_watch,
    publish_zmq,
    replay,
    root_accept_loss,
    root_init,
    root_use,
    salvage,
    simulate,
    status,
    tail,
    writer,
)
from scanbus.cli.interrupts import leave_on_interrupt, was_raised
from scanbus.cli.output import print_error
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.library_logs import take_library_logs

__all__ = ["app", "run"]

# Since 0.26 typer has its own copy of click; before, it used the click package.
_UsageError: type[Exception] = next(
    each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException"
)
# Extra to install if one of these packages cannot be imported.
_EXTRAS = {
    "h5py": "writer",
    "icat_esrf_definitions": "icat",
    "pyicat_plus": "icat",
    "hdf5plugin": "writer",
    "fabio": "files",
    "matplotlib": "demo",
    "blosc2": "blosc2",
    "zmq": "zmq",
    "cbor2": "zmq",
    "p4p": "epics",
    "prometheus_client": "metrics",
}

# Some file systems answer a lock with an error, and no command needs locks of HDF5.
_LOCKING_VARIABLE = "HDF5_USE_FILE_LOCKING"

app = typer.Typer(
    name="scanbus",
    help="Acquisition bus on Redis streams, and a writer of NeXus files from it.",
    epilog="Try it: scanbus demo",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
publish = typer.Typer(
    help="Publish data of others: detectors, image files, a dead publisher's spool.",
    no_args_is_help=True,
    epilog="Example: scanbus publish files frames/*.cbf --sample lysozyme",
)
master = typer.Typer(
    help="Rebuild master files.",
    no_args_is_help=True,
    epilog="Example: scanbus master rebuild --root /data/visitor",
)
icat = typer.Typer(
    help="Tell ICAT, the catalogue, about closed datasets.",
    no_args_is_help=True,
    epilog="Example: scanbus icat watch /data --broker mq.example.org:61613",
)
root = typer.Typer(
    help="The folder below which files are written.",
    no_args_is_help=True,
    epilog="Example: scanbus root init /data",
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
_add(app, "amend", amend)
_add(app, "convert", convert)
_add(app, "layout", layout)
_add(app, "demo", demo)
_add(app, "simulate", simulate)
_add(app, "salvage", salvage)
_add(publish, "files", publish_files)
_add(publish, "dectris", publish_dectris)
_add(publish, "zmq", publish_zmq)
_add(publish, "pva", publish_pva)
_add(publish, "watch", publish_watch)
_add(publish, "resume", publish_resume)
_add(master, "rebuild", master_rebuild)
_add(root, "init", root_init)
_add(root, "use", root_use)
_add(root, "accept-loss", root_accept_loss)
_add(icat, "send", icat_send)
_add(icat, "pending", icat_pending)
_add(icat, "watch", icat_watch)
app.add_typer(root, name="root")
app.add_typer(publish, name="publish")
app.add_typer(master, name="master")
app.add_typer(icat, name="icat")


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return the exit code, as :func:`scanbus.cli.main` does."""
    _raise_file_limit()
    if argv is None:  # The process is this command's; HDF5 reads it when it is loaded.
        os.environ[_LOCKING_VARIABLE] = "FALSE"
        take_library_logs()
    _write_any_text()
    command = typer.main.get_command(app)
    arguments = None if argv is None else list(argv)
    try:
        result: Any = command.main(arguments, "scanbus", standalone_mode=False)
    except (ScanbusError, _UsageError, ImportError, OSError) as error:
        return _exit_code_of(error)
    except (KeyboardInterrupt, typer.Abort):
        result = ExitCode.INTERRUPTED
    except Exception:  # What an extension made of it, such as a failed validation.
        if not was_raised():
            raise
        result = ExitCode.INTERRUPTED
    except SystemExit as stop:  # typer, when the reader of a pipe is gone
        result = stop.code
    finally:
        if argv is None:
            leave_on_interrupt()  # All that had to be ended is.
    if result == ExitCode.INTERRUPTED:
        sentence = "interrupted; what was done so far is kept"
        return _report(sentence, ExitCode.INTERRUPTED)
    return int(result or 0)


def _write_any_text() -> None:
    """Replace letters that the locale lacks, as titles and names have any.

    In the C locale the standard streams may be ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard limit.

    Each lane being written has a file open, and so has each scan; the usual soft limit
    is 1024, for programs that use `select`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # The limit then stays as it was.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _exit_code_of(error: Exception) -> ExitCode:
    """Print an error as one sentence and return its exit code; reraise a bug."""
    if isinstance(error, ScanbusError):
        return _report(str(error), error.exit_code)
    if isinstance(error, ImportError):
        return _report(_what_to_install(error), ExitCode.USAGE)
    if isinstance(error, OSError):
        return _report(_file_problem(error), ExitCode.USAGE)
    return _report_usage(error)


def _report(sentence: str, exit_code: ExitCode) -> ExitCode:
    print_error(sentence)
    return exit_code


def _report_usage(error: Any) -> ExitCode:
    """Print typer's message; return USAGE, not typer's 2, which means partial."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return ExitCode.USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "scanbus"
    # An address in the place of another argument may hold a password.
    message = re.sub(r"\w+://.*", "…", error.format_message(), flags=re.DOTALL).rstrip(
        "."
    )
    message = message.replace("Input should be", "must be")
    return _report(f"{message}. See {command} --help", ExitCode.USAGE)


def _what_to_install(error: ImportError) -> str:
    """Return how to install a missing package; reraise if no extra has it: a bug."""
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        raise error
    return (
        f"this command needs {package}, which is not installed: "
        f"pip install 'scanbus[{_EXTRAS[package]}]'"
    )


def _file_problem(error: OSError) -> str:
    """Return the system's message on a file; reraise an OSError without one: a bug."""
    if error.filename is None:
        raise error
    return f"{error.filename}: {error.strerror}"
