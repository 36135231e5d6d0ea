"""Which files were taken, into which series, with which number; it survives a kill.

A file is noted before its frames leave this process. After a restart the frames of a
series that has not ended in order are sent again; the points that are there stay.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scanbus.publisher.gateways.files.watch.folder import FileId
from scanbus.schemas.errors import ConfigurationError, SourceFailedError

__all__ = ["TakenFile", "TakenFiles", "TakenSeries"]

_FORMAT: Final = 2
# Names of files are octets; times and inodes may be larger than SQLite's numbers. The
# state of a file is 0 until all of its frames were handed on.
_TABLES = """
CREATE TABLE IF NOT EXISTS series (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, first INTEGER NOT NULL,
    frames_per_file INTEGER NOT NULL, uid TEXT NOT NULL DEFAULT '',
    is_sent INTEGER NOT NULL DEFAULT 0, is_done INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS taken_files (
    path BLOB PRIMARY KEY, id TEXT NOT NULL, series TEXT, number INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS taken_files_of_series ON taken_files (series, number);
"""
_WHOLE: Final = 1
_REFUSED: Final = -1
_FROM_FORMAT_1 = """
BEGIN;
INSERT INTO taken_files SELECT CAST(path AS BLOB), mtime_ns || ' ' || size || ' '
    || inode, series, number, 2 * is_whole - 1 FROM files;
DROP TABLE files;
PRAGMA user_version = 2;
COMMIT;
"""


@dataclass(slots=True)
class TakenSeries:
    """A series of files.

    Attributes
    ----------
    key : str
        Unique.
    name : str
        Its name, which another one may have later.
    first : int
        Number of its first file.
    frames_per_file : int
        Number of frames of its first file.
    uid : str
        Its scan; empty if that is not known yet.
    """

    key: str
    name: str
    first: int
    frames_per_file: int
    uid: str = ""


@dataclass(frozen=True, slots=True)
class TakenFile:
    """A file of a series: its path, what it was, and its number."""

    path: Path
    id: FileId
    number: int


class TakenFiles:
    """The files of one watched folder; one thread uses it at a time.

    Parameters
    ----------
    database : Path
        Its file; made if it is not there.

    Attributes
    ----------
    is_new : bool
        Whether the folder was not watched before.

    Raises
    ------
    ConfigurationError
        If another process uses it, or it cannot be used.
    SourceFailedError
        By every method: if it cannot be used any more.
    """

    def __init__(self, database: Path) -> None:
        self.is_new = False
        self._database = database
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                database, timeout=1.0, isolation_level=None, check_same_thread=False
            )
            # The lock lasts until the process ends, however it does.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._make_tables()
            self._identity = _identity_of(database)
        except (sqlite3.Error, OSError) as error:
            is_locked = "locked" in str(error)
            reason = "another process watches the folder" if is_locked else str(error)
            raise ConfigurationError("state", f"{database}: {reason}") from error

    def _make_tables(self) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found not in {0, 1, _FORMAT}:
            raise ConfigurationError("state", f"{self._database}: of another version")
        self.is_new = found == 0  # Also an empty file, of a process that was killed.
        self._db.executescript(_TABLES)
        if found == 1:
            self._db.executescript(_FROM_FORMAT_1)
        self._db.execute(f"PRAGMA user_version = {_FORMAT}")

    def close(self) -> None:
        """Close the database."""
        with suppress(sqlite3.Error):  # What was noted is noted.
            self._db.close()

    def _read(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            with closing(self._db.execute(query, values)) as rows:
                return rows.fetchall()
        except sqlite3.Error as error:
            raise self._failed(str(error)) from error

    def _write(self, query: str, values: Sequence[object] = ()) -> None:
        """Write, if the next process will find it.

        Raises
        ------
        SourceFailedError
            If that is impossible: then nothing is taken any more.
        """
        if _identity_of(self._database) != self._identity:
            raise self._failed(self._restored())
        self._read(query, values)

    def _failed(self, reason: str) -> SourceFailedError:
        return SourceFailedError(f"the database {self._database}", reason)

    def _restored(self) -> str:
        """Write a removed database again, from the open one; return what was done."""
        if self._database.exists():
            return "another file took its place while it was used"
        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            for suffix in ("-wal", "-shm"):  # They would change the new one.
                with suppress(FileNotFoundError):
                    self._database.with_name(self._database.name + suffix).unlink()
            with closing(sqlite3.connect(self._database)) as copy:
                self._db.backup(copy)
        except (sqlite3.Error, OSError) as error:
            return f"it was removed while it was used, and cannot be restored: {error}"
        return "it was removed while it was used; it is there again: start again"

    # --------------------------------------------------------------------- files

    def has(self, path: Path, found: FileId) -> bool:
        """Whether a file was taken as it is now."""
        query = "SELECT 1 FROM taken_files WHERE path = ? AND id = ?"
        return bool(self._read(query, (os.fsencode(path), _as_text(found))))

    def add(self, series: TakenSeries | None, file: TakenFile) -> None:
        """Note a file; without a series it is one that nobody wants."""
        key = None if series is None else series.key
        values = (os.fsencode(file.path), _as_text(file.id), key, file.number)
        self._write("REPLACE INTO taken_files VALUES (?, ?, ?, ?, 0)", values)

    def note_refused(self, file: TakenFile) -> None:
        """Note that some frames of a file are in no scan."""
        query = "UPDATE taken_files SET state = ? WHERE path = ?"
        self._write(query, (_REFUSED, os.fsencode(file.path)))

    def note_number_refused(self, series: TakenSeries, number: int) -> None:
        """Note of all files with a number that they may be in no scan.

        The runner keeps the first one that is like the others, which need not be the
        first that was taken.
        """
        query = "UPDATE taken_files SET state = ? WHERE series = ? AND number = ?"
        self._write(query, (_REFUSED, series.key, number))

    def note_whole(self, file: TakenFile) -> None:
        """Note that all frames of a file were handed on, unless some were refused."""
        query = "UPDATE taken_files SET state = ? WHERE path = ? AND state = 0"
        self._write(query, (_WHOLE, os.fsencode(file.path)))

    def has_number(self, series: TakenSeries, number: int) -> bool:
        """Whether a series has a file with a number."""
        query = "SELECT 1 FROM taken_files WHERE series = ? AND number = ?"
        return bool(self._read(query, (series.key, number)))

    def of(self, series: TakenSeries, first: int = 0) -> Iterator[TakenFile]:
        """Yield the files of a series by number, from a number on."""
        return self._of("number >= ?", series, first)

    def whole_of(self, series: TakenSeries, stop: int) -> Iterator[TakenFile]:
        """Yield the files of a series up to a number, of which all frames were sent."""
        return self._of(f"number < ? AND state = {_WHOLE}", series, stop)

    def _of(
        self, condition: str, series: TakenSeries, bound: int
    ) -> Iterator[TakenFile]:
        query = (
            "SELECT path, id, number FROM taken_files "
            f"WHERE series = ? AND {condition} ORDER BY number"
        )
        for path, text, number in self._read(query, (series.key, bound)):
            found = FileId(*map(int, text.split()))
            yield TakenFile(Path(os.fsdecode(path)), found, number)

    def stop_of(self, series: TakenSeries) -> int:
        """Return the number after that of the last file of a series."""
        query = "SELECT MAX(number) + 1 FROM taken_files WHERE series = ?"
        ((found,),) = self._read(query, (series.key,))
        return int(found or 0)

    def count_of(self, series: TakenSeries) -> int:
        """Return the number of files of a series."""
        query = (
            "SELECT COUNT(DISTINCT number) FROM taken_files "
            "WHERE series = ? AND number >= ?"
        )
        ((found,),) = self._read(query, (series.key, series.first))
        return int(found)

    # -------------------------------------------------------------------- series

    def begin(self, name: str, first: int, frames_per_file: int) -> TakenSeries:
        """Note a new series."""
        series = TakenSeries(uuid.uuid4().hex, name, first, frames_per_file)
        self._write(
            "INSERT INTO series (key, name, first, frames_per_file) "
            "VALUES (?, ?, ?, ?)",
            (series.key, name, first, frames_per_file),
        )
        return series

    def set_scan(self, series: TakenSeries, uid: str) -> None:
        """Note which scan a series is."""
        series.uid = uid
        self._write("UPDATE series SET uid = ? WHERE key = ?", (uid, series.key))

    def unsent(self) -> list[TakenSeries]:
        """Return the series whose scans have not ended in order."""
        return self._series("NOT is_sent")

    def undone(self) -> list[TakenSeries]:
        """Return the series whose scans have ended, and whose files still matter."""
        return self._series("is_sent AND NOT is_done")

    def _series(self, condition: str) -> list[TakenSeries]:
        columns = "key, name, first, frames_per_file, uid"
        query = f"SELECT {columns} FROM series WHERE {condition} ORDER BY rowid"
        return [TakenSeries(*row) for row in self._read(query)]

    def note_sent(self, series: TakenSeries) -> None:
        """Note that all of a series is in its scan, which has ended."""
        self._write("UPDATE series SET is_sent = 1 WHERE key = ?", (series.key,))

    def note_done(self, series: TakenSeries) -> None:
        """Note that nothing is left to be done for a series."""
        self._write("UPDATE series SET is_done = 1 WHERE key = ?", (series.key,))

    def forget(self, file: TakenFile) -> None:
        """Forget a file that was removed."""
        query = "DELETE FROM taken_files WHERE path = ?"
        self._write(query, (os.fsencode(file.path),))

    def forget_gone(self) -> None:
        """Forget series that are done and whose files are gone.

        If all files are gone, the file system may be: then none is forgotten.
        """
        paths = self._read(
            "SELECT path FROM taken_files LEFT JOIN series "
            "ON taken_files.series = series.key "
            "WHERE taken_files.series IS NULL OR is_done"
        )
        gone = [row for row in paths if not Path(os.fsdecode(row[0])).exists()]
        if len(gone) == len(paths):
            return
        for row in gone:
            self._write("DELETE FROM taken_files WHERE path = ?", row)
        self._write(
            "DELETE FROM series WHERE is_done AND key NOT IN "
            "(SELECT series FROM taken_files WHERE series IS NOT NULL)"
        )


def _as_text(found: FileId) -> str:
    return " ".join(map(str, found))


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
