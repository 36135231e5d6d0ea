"""Broken writers and a broken publisher: the judge must catch each of them."""

from typing import Any

from scanbus.bus.protocol import RetransmitBuffer
from scanbus.publisher.scan import Scan
from scanbus.schemas import Verdict
from scanbus.writer.scan.commit_queue import CommitQueue, Finished
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.scan.write_authority import WriteAuthority
from scanbus.writer.storage.durable_files import fsync_path
from scanbus.writer.storage.work_folder import WorkFolder

__all__ = ["WRITERS", "forget_what_was_sent"]


class EagerQueue(CommitQueue):
    """Acknowledges a segment before it publishes it, as if a master showed it.

    The first alone costs nothing: what no master shows stays on the bus.
    """

    def __init__(self, publish: Any, authority: WriteAuthority) -> None:
        super().__init__(publish)
        self._authority = authority

    def submit(self, owner: Any, finished: Finished) -> None:
        self._authority.acknowledge(finished.stops)
        self._authority.show(finished.stops)
        super().submit(owner, finished)


class EagerWriter(ScanWriter):
    """Acknowledges a segment before its file is closed, verified and linked."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._commits = EagerQueue(self._publish, self._authority)


class UnfencedWorkspace(WorkFolder):
    """Leaves the folders of its predecessors where they are."""

    def open(self, *_: Any) -> None:
        self._base.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir()
        fsync_path(self._base)


class UnfencedWriter(ScanWriter):
    """Trusts its lease alone: whoever is paused and wakes up links and renames on."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        # The object itself: parts of the writer have it, too.
        self._work_folder.__class__ = UnfencedWorkspace


class HastyWriter(ScanWriter):
    """Takes the silence of a publisher for the end of its scan."""

    def _interrupt(self) -> Verdict:
        return self._finalise()


WRITERS: dict[str, type[ScanWriter]] = {
    "early-acknowledge": EagerWriter,
    "no-fence": UnfencedWriter,
    "hasty": HastyWriter,
}
"""Writers by the name of what is wrong with them."""


class ForgetfulOutbox(RetransmitBuffer):
    """Never sends anything again: what Redis took once is believed to be there."""

    def resume_after(self, last_id: bytes | None) -> int:
        del last_id
        return 0


def forget_what_was_sent(scan: Scan) -> None:
    """Break a scan that is prepared and has sent nothing yet."""
    queue = scan._queue
    for lane in queue.lanes.values():
        lane._retransmit = ForgetfulOutbox(queue.session)
