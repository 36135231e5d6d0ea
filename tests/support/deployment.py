"""The files in deploy/, as their readers see them."""

import re
from pathlib import Path

WRITER_UNIT = "systemd/scanbus-writer.service"
GATEWAY_UNIT = "systemd/scanbus-gateway@.service"
REDIS_DROP_IN = "systemd/redis-server.service.d/scanbus.conf"


def settings_of(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if match := re.match(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found
