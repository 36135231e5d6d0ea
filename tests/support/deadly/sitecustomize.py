"""Python imports this at its start: blocks with a NaN kill whoever unpacks them.

Stands for a library in C that has a flaw. Whatever runs with this folder in its
PYTHONPATH has it, so the writer and its children.
"""

import os
import signal
from typing import Any

from scanbus.bus import blocks

_decode_block = blocks.decode_block


def _deadly(channel: Any, block: memoryview, *rest: Any) -> Any:
    if b"\x00\x00\xf8\x7f" in bytes(block):
        os.kill(os.getpid(), signal.SIGSEGV)
    return _decode_block(channel, block, *rest)


blocks.decode_block = _deadly  # type: ignore[assignment]
