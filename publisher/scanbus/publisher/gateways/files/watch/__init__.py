"""Watch a folder into which a detector writes its files one by one."""

from scanbus.publisher.gateways.files.watch.gateway import WatchGateway
from scanbus.publisher.gateways.files.watch.settings import WatchSettings

__all__ = ["WatchGateway", "WatchSettings"]
