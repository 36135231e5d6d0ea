"""Scan numbers that stay unique although only the disk knows all of them.

Publishers ask on the bus for the numbers of one dataset. A thread looks them up, with a
connection of its own: a mount that does not answer must not block the service.
"""

from __future__ import annotations

import queue
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from scanbus.bus.store import (
    Bus,
    LoopGuard,
    NumberAnswer,
    NumberRequest,
    answer_request,
    connect,
    read_number_requests,
    translated,
)
from scanbus.schemas import ScanIdentity
from scanbus.schemas.errors import BusUnavailableError, RootUnusableError
from scanbus.schemas.file_names import RAW_DATA, scan_folder_name
from scanbus.writer.settings import WriterSettings
from scanbus.writer.storage.data_root import inside
from scanbus.writer.storage.number_claims import (
    is_number_free,
    last_number,
    release_unused_claims,
)

__all__ = ["NumberDesk"]

_NAME: Final = r"[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9_])?"
_DATASET: Final = re.compile(rf"{_NAME}/{_NAME}/{_NAME}/{RAW_DATA}/{_NAME}/{_NAME}")
_MAX_LENGTH: Final = 1000


class NumberDesk:
    """Answers requests about the numbers of datasets; the service owns it.

    Attributes
    ----------
    seen : str
        Id of the last request that was taken.

    Parameters
    ----------
    settings : WriterSettings
        Settings of the process.
    """

    def __init__(self, settings: WriterSettings) -> None:
        self.seen = "0-0"
        self._root = settings.root
        self._url = settings.redis
        self._requests: queue.Queue[NumberRequest | ScanIdentity | None] = queue.Queue()
        self._guard = LoopGuard("writer", settings.redis)
        self._thread = threading.Thread(
            target=self._run, name="scanbus-numbers", daemon=True
        )

    def open(self) -> None:
        """Start to answer."""
        self._thread.start()

    def take_new(self, client: Bus) -> None:
        """Take the new requests from the bus, to answer them soon."""
        for request in read_number_requests(client, self.seen):
            self.seen = request.id
            self._requests.put(request)

    def note_given_up(self, scan: ScanIdentity) -> None:
        """Release the claim of a scan that will not be written, if it has no file."""
        self._requests.put(scan)

    def close(self) -> None:
        """Answer what was asked so far, unless the disk hangs, and end."""
        self._requests.put(None)
        if self._thread.ident is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            try:
                with self._guard.attempt("answer a request"):
                    if isinstance(request, NumberRequest):
                        self._answer(request)
                    else:
                        self._release(request)
            except BusUnavailableError:
                continue  # It stays on the bus, and is asked again by the program.

    def _answer(self, request: NumberRequest) -> None:
        answer = numbers_on_disk(self._root, request.dataset, request.number)
        with translated(self._url), connect(self._url, name="scanbus-numbers") as bus:
            answer_request(bus, request, answer)

    def _release(self, scan: ScanIdentity) -> None:
        with suppress(RootUnusableError, NotADirectoryError):
            folder = inside(self._root, self._root / scan.dataset_folder)
            release_unused_claims(folder, scan.uid)


def numbers_on_disk(root: Path, dataset: str, number: int) -> NumberAnswer | None:
    """Return which numbers of a dataset are taken; None if it cannot be a dataset.

    Parameters
    ----------
    dataset : str
        Its folder, relative to the root, as somebody sent it.
    number : int
        The number that a program gave; 0 for none.

    Raises
    ------
    OSError
        If the file system does not say.
    """
    if len(dataset) > _MAX_LENGTH or not _DATASET.fullmatch(dataset):
        return None
    try:
        folder = inside(root, root / dataset)
    except RootUnusableError:
        return None  # Its scans are refused, with the reason.
    is_free = number == 0 or is_number_free(folder, number)
    holder = "" if is_free else str(folder / scan_folder_name(number))
    return NumberAnswer(last_number(folder), holder)
