"""The root: the folder below which files are written, and its id.

A path alone does not tell an empty mount point from the file system that belongs there.
So a folder is made a root once, by an operator, and has an id from then on, in
``.scanbus/root.json``. A writer writes only below a root, compares its id with the one
that the bus knows, and never makes one.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from scanbus.schemas.errors import (
    ConfigurationError,
    NameTakenError,
    NoRootError,
    RootConflictError,
    RootUnusableError,
)
from scanbus.schemas.file_names import WORK_FOLDER
from scanbus.writer.storage.durable_files import (
    fsync_descriptor,
    fsync_path,
    make_folder,
)
from scanbus.writer.storage.exclusive_names import give_name
from scanbus.writer.storage.paths_below import paths_below
from scanbus.writer.storage.regular_file import check_folder, kind_of, read_regular

__all__ = ["RootGuard", "RootMark", "init_root", "open_own_folder", "read_root_id"]

_MARK: Final = "root.json"
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class RootMark(NamedTuple):
    """A root, as `init_root` made or found it.

    Attributes
    ----------
    path : pathlib.Path
        The folder.
    id : str
        Its id; no two roots have the same, unless one is a copy of the other.
    is_new : bool
        Whether the call made it.
    """

    path: Path
    id: str
    is_new: bool


def init_root(root: Path, *, existing: bool = False) -> RootMark:
    """Make a folder a root, unless it is one.

    Parameters
    ----------
    root : pathlib.Path
        The folder; created if the folder above it exists.
    existing : bool
        Whether a folder with files may become a root; they are not changed.

    Raises
    ------
    ConfigurationError
        If the folder has files, and `existing` is False.
    RootUnusableError
        If the file system refuses.
    NameTakenError
        If ``.scanbus`` in it is no folder.
    """
    try:
        return _init_root(root, existing=existing)
    except OSError as error:
        raise RootUnusableError(str(root), error.strerror or str(error)) from error


def _init_root(root: Path, *, existing: bool) -> RootMark:
    is_made = not root.exists()
    if is_made:
        root.mkdir()
    own = root / WORK_FOLDER
    check_folder(own)
    if (own / _MARK).exists():
        return RootMark(root, read_root_id(root), is_new=False)
    _refuse_foreign(root, existing=existing)
    own.mkdir(exist_ok=True)
    made = secrets.token_hex(16)
    text = json.dumps({"root": made, "time": time.time()}) + "\n"
    aside = own / f".{_MARK}.{secrets.token_hex(8)}"
    aside.write_text(text)
    fsync_path(aside)
    try:
        # Of two who make the root at once, the first counts.
        give_name(aside, own / _MARK)
    except FileExistsError:
        pass
    finally:
        aside.unlink(missing_ok=True)
    _give_to_owner(root, own)
    for folder in (own, root, *([root.parent] if is_made else [])):
        fsync_path(folder)
    return RootMark(root, read_root_id(root), is_new=True)


def _refuse_foreign(root: Path, *, existing: bool) -> None:
    # A new file system has lost+found, and network ones hidden folders of snapshots.
    found = sorted(
        path.name for path in paths_below(root, "[!.]*") if path.name != "lost+found"
    )
    if found and not existing:
        raise ConfigurationError(
            "root",
            f"{root} has files already ({', '.join(found[:3])}). If data are to be "
            "written beside them, say --existing; they stay as they are",
        )


def _give_to_owner(root: Path, own: Path) -> None:
    """Give what the superuser made to the owner of the root: the writer's user."""
    owner = root.stat()
    own.chmod(stat.S_IMODE(owner.st_mode) | stat.S_IRWXU)
    if os.geteuid() == 0:
        for path in (own, own / _MARK):
            os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def open_own_folder(root: Path) -> Iterator[tuple[int, str]]:
    """Open the folder ``.scanbus`` of a root; yield its descriptor and the root's id.

    What is made by way of the descriptor is on the file system that has the id, even
    if the root is unmounted meanwhile.

    Raises
    ------
    NoRootError
        If the folder is no root.
    OSError
        If the file system does not answer as it should.
    """
    try:
        base = os.open(root, _FOLDER_FLAGS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoRootError(str(root), "there is no such folder") from error
    try:
        with _own_folder_in(root, base) as found:
            yield found
    finally:
        os.close(base)


@contextmanager
def _own_folder_in(root: Path, base: int) -> Iterator[tuple[int, str]]:
    try:
        own = os.open(WORK_FOLDER, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=base)
    except FileNotFoundError as error:
        raise NoRootError(str(root), f"it has no folder {WORK_FOLDER}") from error
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        mode = os.stat(WORK_FOLDER, dir_fd=base, follow_symlinks=False).st_mode
        reason = f"{WORK_FOLDER} in it is {kind_of(mode)}, not a folder"
        raise NoRootError(str(root), reason) from error
    try:
        yield own, _read_mark(root, own)
    finally:
        os.close(own)


def _read_mark(root: Path, own: int) -> str:
    name = f"{WORK_FOLDER}/{_MARK}"
    try:
        found = json.loads(read_regular(_MARK, dir_fd=own))["root"]
    except FileNotFoundError as error:
        raise NoRootError(str(root), f"it has no file {name}") from error
    except NameTakenError as error:
        raise NoRootError(str(root), f"{name} in it is {error.holder}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise NoRootError(str(root), f"{name} in it holds no id") from error
    if not isinstance(found, str) or not found.isalnum():
        raise NoRootError(str(root), f"{name} in it holds no id")
    return found


def read_root_id(root: Path) -> str:
    """Return the id of a root.

    Raises
    ------
    NoRootError
        If the folder is no root: it was not made one, was moved, or is not mounted.
    RootUnusableError
        If the file system refuses.
    """
    try:
        with open_own_folder(root) as (_, found):
            return found
    except OSError as error:
        raise RootUnusableError(str(root), error.strerror or str(error)) from error


class RootGuard:
    """A root that must stay the one it was: checks it, and makes folders only in it.

    Parameters
    ----------
    root : pathlib.Path
        The root.
    root_id : str
        Its id; empty for a folder that need not be a root, as that of a replay.
    also : callable
        Another check, which raises.
    """

    def __init__(
        self, root: Path, root_id: str = "", also: Callable[[], None] = lambda: None
    ) -> None:
        self._root = root
        self._id = root_id
        self._also = also

    def check(self) -> None:
        """Check that the path still leads to the same root.

        Raises
        ------
        NoRootError, RootConflictError, RootUnusableError
            If it leads elsewhere, or nowhere.
        OSError
            If the file system refuses.
        """
        if self._id:
            self._compare(read_root_id(self._root))
            self._also()

    def _compare(self, found: str) -> None:
        if found != self._id:
            reason = f"it is another root now, {found}, and was {self._id}"
            raise RootConflictError(str(self._root), reason)

    def explain(self, error: BaseException) -> None:
        """Raise what is wrong with the root, if an error is only a consequence of it.

        Raises
        ------
        NoRootError, RootConflictError
            If the path does not lead to the same root any more.
        """
        try:
            self.check()
        except (NoRootError, RootConflictError) as lost:
            raise lost from error
        except (OSError, RootUnusableError):
            return  # The error itself says more.

    def make_folder(self, folder: Path) -> None:
        """Create a folder below the root with its missing parents, durably.

        From descriptor to descriptor, beginning with the checked root: if it is
        unmounted meanwhile, nothing is made on the file system behind.

        Raises
        ------
        NoRootError, RootConflictError, RootUnusableError
            If the root is not the same any more; nothing was made.
        OSError
            If a folder cannot be created or synced.
        """
        if not self._id:
            make_folder(folder)
            return
        try:
            with open_own_folder(self._root) as (own, found):
                self._compare(found)
                parts = folder.relative_to(self._root).parts
                _make_folders(os.open("..", _FOLDER_FLAGS, dir_fd=own), parts)
        except NotADirectoryError as error:
            # Made by way of a descriptor, its error names no more than the last part.
            sentence = error.strerror
            raise NotADirectoryError(error.errno, sentence, str(folder)) from error


def _make_folders(base: int, parts: tuple[str, ...]) -> None:
    """Create a chain of folders below a descriptor, which is closed."""
    for part in parts:
        try:
            is_new = _is_made(part, base)
            inner = os.open(part, _FOLDER_FLAGS, dir_fd=base)
            if is_new:
                fsync_descriptor(base)
        finally:
            os.close(base)
        base = inner
    os.close(base)


def _is_made(name: str, base: int) -> bool:
    try:
        os.mkdir(name, dir_fd=base)
    except FileExistsError:
        return False
    return True
