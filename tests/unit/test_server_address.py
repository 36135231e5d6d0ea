"""An address of a Redis server never shows its password, however it is malformed."""

import copy
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.store import DEFAULT_URL, ServerAddress, address_of, connect
from scanbus.schemas.errors import ConfigurationError, ServerAddressError
from scanbus.writer import WriterSettings
from tests.support.secret_addresses import ADDRESSES, SECRET


@given(url=ADDRESSES)
def test_no_message_about_an_address_has_its_password(url: str) -> None:
    try:
        address = ServerAddress(url)
        shown = f"{address} {address!r} {[address]} {copy.copy(address)!r}"
        with connect(address, name="test") as client:
            shown += repr(client)
    except ServerAddressError as error:
        shown = "".join(traceback.format_exception(error)) + repr(error)
    assert SECRET not in shown


@given(url=ADDRESSES)
def test_no_settings_and_no_error_about_them_have_the_password(url: str) -> None:
    try:
        settings = WriterSettings(redis=url, root="/data")
        shown = f"{settings} {settings!r} {settings.model_dump()}"
        shown += settings.model_dump_json()
    except ValueError as error:
        shown = "".join(traceback.format_exception(error))
    try:
        WriterSettings.load(redis=url, root="/data")
    except ConfigurationError as error:
        shown += "".join(traceback.format_exception(error))
    assert SECRET not in shown


def test_a_worker_process_gets_the_password() -> None:
    url = f"redis://:{SECRET}@host"
    settings = WriterSettings(redis=url, root="/data")
    again = WriterSettings.model_validate_json(settings.to_message())
    assert again == settings
    assert ServerAddress(again.redis).secret == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://:pass@host:6380/2", "redis://…@host:6380/2"),
        ("rediss://u:p%40q@[::1]:1?ssl_ca_certs=x", "rediss://…@[::1]:1?…"),
        ("unix:///run/redis.sock?password=pass", "unix:///run/redis.sock?…"),
        ("unix://user:pass@/run/redis.sock", "unix://…@/run/redis.sock"),
        ("redis://:a@b@host", "redis://…@host"),
    ],
)
def test_a_good_address_is_shown_and_used(url: str, shown: str) -> None:
    address = ServerAddress(url)
    assert address == shown
    assert address.secret == url
    assert pickle.loads(pickle.dumps(address)).secret == url
    assert ServerAddress(address) is address
    with connect(url, name="test"):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://",
        "redis://:12345#x@host",  # Not port 12345 of this machine.
        "redis://:12345?x@host",
        "redis://user:123/4?5@host",
        "redis://host:70000",
        "redis://host/db",
        "redis://host name",
        "redis://host\n",
        "redis://host?db",
        "unix://relative/path",
        "unix:///with@sign",
        "REDISS//host",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ServerAddressError, match="%23 %3F %2F %40"):
        ServerAddress(url)


@given(text=st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = ServerAddress(text)
    except ServerAddressError:
        return
    with connect(address, name="test"):
        pass


def test_a_text_that_quotes_the_password_is_cleared_of_it() -> None:
    address = ServerAddress("redis://u:s3cr%40t@host?password=other")
    text = "AUTH with args 's3cr@t' s3cr%40t other"
    assert address.hidden_in(text) == "AUTH with args '…' … …"


def test_an_address_is_that_given_then_that_of_the_environment_then_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCANBUS_REDIS", "redis://there:1")
    assert address_of("redis://here:1") == "redis://here:1"
    assert address_of(None) == "redis://there:1"
    monkeypatch.delenv("SCANBUS_REDIS")
    assert address_of(None) == DEFAULT_URL
    for wrong in ("", "there:1"):
        monkeypatch.setenv("SCANBUS_REDIS", wrong)
        with pytest.raises(ServerAddressError):
            address_of(None)
