"""Watch a folder into which a detector writes its files one by one."""

from __future__ import annotations

from scanbus.publisher.gateways.files.watch.after_verdict import AfterVerdict
from scanbus.publisher.gateways.files.watch.file_messages import (
    FileContent,
    message_of,
)
from scanbus.publisher.gateways.files.watch.file_names import shown
from scanbus.publisher.gateways.files.watch.settings import WatchSettings
from scanbus.publisher.gateways.files.watch.source import OpenedScans, WatchSource
from scanbus.publisher.gateways.files.watch.taken_files import TakenFiles
from scanbus.publisher.gateways.runner.gateway import Source
from scanbus.publisher.gateways.runner.messages import Message
from scanbus.schemas.errors import ConfigurationError

__all__ = ["WatchGateway"]


class WatchGateway:
    """The files of a folder: each is taken once, when it is whole.

    Parameters
    ----------
    url : str
        Address of Redis, where ends and verdicts of scans stand.
    settings : WatchSettings
        What is watched, and how.
    """

    kind = "watch"
    detector = "detector"

    def __init__(self, url: str, settings: WatchSettings) -> None:
        self.address = shown(settings.folder)
        self._settings = settings
        self._after = AfterVerdict(url, settings)
        self._scans = OpenedScans()

    def open(self) -> Source:
        """Begin to watch.

        Raises
        ------
        ConfigurationError
            If the folder cannot be read, another process watches it, or files would be
            linked into it.
        """
        folder, link_into = self._settings.folder, self._settings.link_into
        if link_into is not None and link_into.resolve().is_relative_to(
            folder.resolve()
        ):
            reason = f"{link_into} is below {folder}, whose files are published"
            raise ConfigurationError("link_into", reason)
        taken = TakenFiles(self._settings.database)
        try:
            return WatchSource(self._settings, self._scans, taken, self._after)
        except BaseException:
            taken.close()
            raise

    def decode(self, content: FileContent) -> Message:
        """Return what a file says.

        Raises
        ------
        MessageError
            If the file was refused.
        """
        return message_of(content)

    def scan_opened(self, key: str, uid: str, next_number: int) -> None:
        """Take note of the scan of a series: frames before a number are in it."""
        self._scans.add(key, uid, next_number)

    def look_after(self) -> None:
        """Remove or link the files of scans that have their verdicts, at the end."""
        taken = TakenFiles(self._settings.database)
        try:
            self._after.look_now(taken)
        finally:
            taken.close()
