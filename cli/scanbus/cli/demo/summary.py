"""Print the result of the demo: files, NeXus tree, verdict, commands to try next."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from scanbus.cli.demo.nexus_outline import OutlineLine, read_outline
from scanbus.cli.output import bytes_text, coloured, stdout
from scanbus.schemas import Verdict
from scanbus.schemas.wording import counted

__all__ = ["file_tree", "next_commands", "print_summary"]


# Groups of the master shown without members: long lists that repeat other data.
_CLOSED = (
    "positioners",
    "positioners_start",
    "positioners_end",
    "notes",
    "scanbus",
    "writer",
)


def print_summary(folder: Path, verdict: Verdict, picture: Path) -> None:
    """Print the result of the demo."""
    console = stdout()
    master = folder / verdict.master
    console.print(Text("\nFiles", style="bold"))
    console.print(file_tree(folder))
    if verdict.master and master.is_file():
        console.print(Text("\nThe scan, as NeXus", style="bold"))
        console.print(nexus_tree(master))
    _print_verdict(console, verdict)
    if picture.is_file():
        console.print(Text("Picture  "), end="")
        console.print(str(picture), markup=False, soft_wrap=True)
    console.print(Text("\nCommands to try next", style="bold"))
    for command, purpose in next_commands(master):
        console.print(Text(f"  # {purpose}", style="dim"), soft_wrap=True)
        console.print(f"  {command}", markup=False, soft_wrap=True)


def _print_verdict(console: Console, verdict: Verdict) -> None:
    ledgers = verdict.of_data.values()
    n_points = sum(ledger.written for ledger in ledgers)
    n_expected = sum(ledger.expected for ledger in ledgers)
    console.print(
        Text.assemble(
            "\nVerdict  ",
            coloured(verdict.verdict.value),
            f"  {n_points} of {counted(n_expected, 'point')} in "
            f"{counted(len(ledgers), 'channel')}"
            f" {verdict.reason}",
        )
    )


def file_tree(folder: Path) -> Tree:
    """Return the files below a folder, with their sizes."""
    tree = Tree(Text(f"{folder}/", style="bold"))
    _add_files(tree, folder)
    return tree


def _add_files(tree: Tree, folder: Path) -> None:
    for path in sorted(folder.iterdir(), key=lambda each: (each.is_file(), each.name)):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            _add_files(tree.add(Text(f"{path.name}/", style="blue")), path)
        else:
            size = Text(f"  {bytes_text(path.stat().st_size)}", style="dim")
            tree.add(Text(path.name) + size)


def nexus_tree(master: Path) -> Tree:
    """Return the outline of a master as a tree."""
    tree = Tree(Text(master.name, style="bold"))
    parents = [tree]
    closed_at: int | None = None
    for line in read_outline(master):
        if closed_at is not None and line.depth > closed_at:
            continue
        closed_at = line.depth if line.name in _CLOSED else None
        del parents[line.depth + 1 :]
        parents.append(parents[-1].add(_label(line)))
    return tree


def _label(line: OutlineLine) -> Text:
    style = "cyan" if line.text.startswith("NX") else "dim"
    return Text.assemble(line.name, "  ", (line.text, style))


def next_commands(master: Path) -> list[tuple[str, str]]:
    """Return commands that work on this machine, each with its purpose."""
    scanbus, file = _scanbus(), shlex.quote(str(master))
    found = [(f"{scanbus} check --all {file}", "verify the files")]
    silx = _program("silx")
    if silx and importlib.util.find_spec("silx"):
        found.append((f"{silx} view {file}", "view the data"))
    h5dump = _program("h5dump")
    if h5dump:
        found.append((f"{h5dump} -n 1 {file}", "list all groups and datasets"))
    found.append((f"{scanbus} demo --frames 400", "run a longer scan"))
    found.append((f"{scanbus} writer --help", "write scans of your own Redis"))
    return found


def _scanbus() -> str:
    return _program("scanbus") or f"{_short(Path(sys.executable))} -m scanbus.cli"


def _program(name: str) -> str | None:
    """Return the command of a program that is installed; None if it is not."""
    if shutil.which(name):
        return name
    beside = Path(sys.executable).parent / name
    return shlex.quote(_short(beside)) if beside.is_file() else None


def _short(path: Path) -> str:
    """Return a path relative to the working directory if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
