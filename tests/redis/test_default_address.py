"""Programs without an address take that of the environment, as the commands do."""

import pytest

from scanbus.publisher import Publisher
from scanbus.subscriber import Subscriber

pytestmark = pytest.mark.redis


def test_publisher_and_subscriber_take_the_address_of_the_environment(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANBUS_REDIS", redis_url)
    with (
        Publisher(close_timeout_s=0.1) as publisher,
        publisher.scan(title="by environment") as scan,
    ):
        scan.channel("th")
        scan.send("th", 1.0)
    with Subscriber() as subscriber:
        assert [one.title for one in subscriber.scans()] == ["by environment"]
