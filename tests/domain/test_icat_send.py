"""The message about a closed dataset: what it says, and that it is sent once."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from scanbus.cli import main
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import (
    BrokerError,
    ConfigurationError,
    DatasetOpenError,
    IcatMessageError,
    NameTakenError,
    RootUnusableError,
)
from scanbus.writer import SendState, amend, pending, send_dataset
from tests.support.icat import (
    START_S,
    closed_port,
    running_broker,
    unfinished_scan,
    write_finished_scan,
)

NAMESPACE = "{http://www.esrf.fr/icat}"


def outbox(dataset: Path) -> Path:
    return dataset.parent.parent / "__icat__"


def message(dataset: Path, name: str = "0001") -> Path:
    return outbox(dataset) / f"lyso@{name}.xml"


def parameters_in(octets: bytes) -> dict[str, str]:
    found = {}
    for each in ET.fromstring(octets).iter(f"{NAMESPACE}parameter"):
        name, value = (each.find(f"{NAMESPACE}{tag}") for tag in ("name", "value"))
        assert name is not None
        assert value is not None
        found[str(name.text)] = str(value.text)
    return found


def parameters_of(dataset: Path, **options: Any) -> dict[str, str]:
    send_dataset(dataset, **options)
    return parameters_in(message(dataset).read_bytes())


def test_a_message_is_sent_once(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    with running_broker() as broker:
        first = send_dataset(dataset, [broker.address])
        second = send_dataset(dataset, [broker.address])

    assert (first.state, second.state) == (SendState.SENT, SendState.SENT_BEFORE)
    assert second.broker == broker.address
    assert len(broker.messages) == 1
    assert not message(dataset).exists()


def test_again_sends_the_same_message(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    with running_broker() as broker:
        send_dataset(dataset, [broker.address])
        send_dataset(dataset, [broker.address], again=True)

    assert len(broker.messages) == 2
    assert broker.messages[0] == broker.messages[1]


def test_again_waits_like_any_other_message(tmp_path: Path) -> None:
    """Else it would be forgotten: the dataset was sent before."""
    dataset = write_finished_scan(tmp_path)
    with running_broker() as broker:
        send_dataset(dataset, [broker.address])
        assert send_dataset(dataset, again=True).state is SendState.WAITING
        assert send_dataset(dataset, [broker.address]).state is SendState.SENT

    assert len(broker.messages) == 2


def test_without_a_broker_it_waits_as_what_would_have_been_sent(
    tmp_path: Path,
) -> None:
    dataset = write_finished_scan(tmp_path)
    waiting = send_dataset(dataset, [f"127.0.0.1:{closed_port()}"])
    kept = message(dataset).read_bytes()
    with running_broker() as broker:
        sent = send_dataset(dataset, [broker.address])

    assert waiting.state is SendState.WAITING
    assert "refused" in waiting.reason
    assert waiting.message == message(dataset)
    assert sent.state is SendState.SENT
    assert broker.messages == [kept]
    mark = json.loads((outbox(dataset) / "lyso@0001.sent").read_bytes())
    assert mark["digest"] == hashlib.sha256(kept).hexdigest()
    assert list(mark["scans"]) == ["1"]


def test_the_next_broker_is_tried(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    with running_broker() as broker:
        away = f"127.0.0.1:{closed_port()}"
        report = send_dataset(dataset, [away, broker.address])

    assert report.broker == broker.address


def test_the_mandatory_keys_are_those_of_the_dataset(tmp_path: Path) -> None:
    write_finished_scan(tmp_path, 1, metadata={"title": "x", "proposal": "other"})
    dataset = write_finished_scan(tmp_path, 2, start_s=START_S + 1000)
    found = parameters_of(dataset)

    assert found["datasetName"] == "lyso_0001"
    assert found["proposal"] == "hg123"
    assert found["beamlineID"] == "id00"
    assert found["location"] == str(dataset)
    assert found["startDate"] == "2023-11-14T22:13:20Z"
    assert found["endDate"] == "2023-11-14T22:31:00Z"
    assert found["Sample_name"] == "lyso"


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_without_a_sample_name_it_is_that_of_the_collection(
    name: object, tmp_path: Path
) -> None:
    dataset = write_finished_scan(tmp_path, metadata={"sample": {"name": name}})
    assert parameters_of(dataset)["Sample_name"] == "lyso"


def test_metadata_become_keys_and_keys_win(tmp_path: Path) -> None:
    metadata = {
        "sample": {"name": "Lysozym Å", "description": "of hen"},
        "saxs": {"@NX_class": "NXsubentry", "experimentType": "mail-in"},
        "definition": "SAXS",
        "icat": {"Sample_description": "of duck", "InstrumentSource_current": 200},
    }
    found = parameters_of(write_finished_scan(tmp_path, metadata=metadata))

    assert found["Sample_name"] == "Lysozym Å"
    assert found["Sample_description"] == "of duck"
    assert found["InstrumentSource_current"] == "200"
    assert found["SAXS_experimentType"] == "mail-in"
    assert found["definition"] == "SAXS"


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    metadata = {"icat": {"Sample_nmae": "a"}, "sample": {"colour": "blue"}}
    report = send_dataset(write_finished_scan(tmp_path, metadata=metadata))

    assert sorted(report.unknown) == ["icat/Sample_nmae", "sample/colour"]


def test_keys_that_are_no_group_are_said(tmp_path: Path) -> None:
    report = send_dataset(write_finished_scan(tmp_path, metadata={"icat": 3}))
    assert report.problems == ("icat: it is no group of keys of ICAT; not sent",)


def test_corrections_are_in_the_message(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    amend(
        dataset / "scan0001",
        {"sample": {"name": "insulin"}},
        reason="mixed up",
        author="A",
    )
    assert parameters_of(dataset)["Sample_name"] == "insulin"


def test_partial_scans_are_in_it_and_said(tmp_path: Path) -> None:
    write_finished_scan(tmp_path, 1)
    dataset = write_finished_scan(
        tmp_path, 2, verdict=VerdictWord.PARTIAL, reason="2 points of <th> & co"
    )
    report = send_dataset(dataset)
    found = parameters_in(message(dataset).read_bytes())

    assert [scan.number for scan in report.scans] == [1, 2]
    assert found["Notes_note_00"] == "scan 2 is partial (2 points of <th> & co)"


def test_personal_data_are_not_sent_unless_asked_for(tmp_path: Path) -> None:
    metadata = {
        "user": {"name": "Ada Lovelace"},
        "sample": {"name": "a", "owner": {"@NX_class": "NXuser", "name": "Ada L."}},
        "icat": {"DOI_users": "Ada,Lovelace,0000-0001"},
    }
    dataset = write_finished_scan(tmp_path, metadata=metadata)
    report = send_dataset(dataset)
    text = message(dataset).read_text()

    assert "Lovelace" not in text
    assert "Ada" not in text
    assert "DOI_users: personal data are not sent" in report.problems
    asked = send_dataset(dataset, with_users=True)
    assert (asked.parameters or {})["DOI_users"] == "Ada,Lovelace,0000-0001"


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("bitshuffle-lz4", "bitshuffle"),
        ("bitshuffle-zstd", "bitshuffle"),
        ("gzip-shuffle", "deflate"),
        ("zstd", "zstd"),
    ],
)
def test_codecs_are_lossless_filters(codec: str, name: str, tmp_path: Path) -> None:
    found = parameters_of(write_finished_scan(tmp_path, codec=codec))

    assert found["Compression_type"] == "lossless"
    assert found["Compression_codec"] == name
    assert "eiger_*.h5?path=" in found["Compression_scope"]


def test_frames_without_a_codec_have_no_compression(tmp_path: Path) -> None:
    found = parameters_of(write_finished_scan(tmp_path, codec="none"))
    assert [key for key in found if key.startswith("Compression")] == []


def test_lossy_is_what_the_metadata_declare(tmp_path: Path) -> None:
    metadata = {"compression": {"type": "lossy", "target_compression_ratio": 20.0}}
    found = parameters_of(write_finished_scan(tmp_path, metadata=metadata))

    assert found["Compression_type"] == "lossy"
    assert found["Compression_target_compression_ratio"] == "20.0"
    assert found["Compression_codec"] == "bitshuffle"


def test_lists_are_sent_as_icat_has_them(tmp_path: Path) -> None:
    keys = {
        "input_datasets": "/data/a/b,/data/a/c",
        "InstrumentPositioners_name": "th chi",
        "DOI_keywords": "lysozyme;hen",
    }
    found = parameters_of(write_finished_scan(tmp_path, metadata={"icat": keys}))

    assert {key: found.get(key) for key in keys} == keys


HOSTILE = [
    "<!DOCTYPE a [<!ENTITY b 'c'>]>&b;",
    "]]></tns:value></tns:parameter>",
    "a\x1b[31m\x07b",
    "\ufffe\uffff",
    "two\nlines\r\nand\u2028more",
    "x" * 100_000,
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(name: str, tmp_path: Path) -> None:
    metadata = {"sample": {"name": name, "description": name}}
    dataset = write_finished_scan(tmp_path, metadata=metadata)
    found = parameters_of(dataset)
    with running_broker() as broker:
        assert send_dataset(dataset, [broker.address]).state is SendState.SENT

    if name.isprintable():
        assert found["Sample_name"] == name
    assert "\n" not in found["Sample_name"]
    assert parameters_in(broker.messages[0]) == found


def test_scans_that_came_later_are_named(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    with running_broker() as broker:
        send_dataset(dataset, [broker.address])
        write_finished_scan(tmp_path, 2)
        report = send_dataset(dataset, [broker.address])

        assert report.state is SendState.CHANGED
        assert len(broker.messages) == 1
        assert "others now" in pending(tmp_path)[0].reason
        send_dataset(dataset, [broker.address], again=True)
        assert pending(tmp_path) == ()


def test_a_dataset_that_is_written_is_not_closed(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    unfinished_scan(tmp_path, 2)

    with pytest.raises(DatasetOpenError, match="1 scan being written"):
        send_dataset(dataset)
    assert not message(dataset).exists()
    assert pending(tmp_path)[0].reason.startswith("open: ")


def test_the_work_folder_of_a_finished_scan_keeps_nothing_open(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    (dataset / ".scanbus" / "uid00000001xlyso0001.1.0a").mkdir(parents=True)

    assert send_dataset(dataset).state is SendState.WAITING


def test_what_is_no_dataset_is_said(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    for folder in (tmp_path, dataset.parent, dataset / "scan0001", dataset / "no"):
        with pytest.raises(IcatMessageError):
            send_dataset(folder)
    (dataset.parent / "lyso_0002").mkdir()
    with pytest.raises(IcatMessageError, match="no finished scan"):
        send_dataset(dataset.parent / "lyso_0002")


def test_datasets_of_the_same_folder_name_do_not_share_a_file(tmp_path: Path) -> None:
    one = write_finished_scan(tmp_path, collection="a", dataset="b_c")
    other = write_finished_scan(tmp_path, collection="a_b", dataset="c")
    assert one.name == other.name
    for dataset in (one, other):
        assert send_dataset(dataset).state is SendState.WAITING

    assert {path.name for path in outbox(one).glob("*.xml")} == {
        "a@b_c.xml",
        "a_b@c.xml",
    }


@pytest.mark.parametrize("octets", [b"", b"no XML", b"<a/>", b"<!DOCTYPE a><a/>"])
def test_a_file_of_another_is_not_replaced(octets: bytes, tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    outbox(dataset).mkdir()
    message(dataset).write_bytes(octets)

    with pytest.raises(NameTakenError, match="no message about this dataset"):
        send_dataset(dataset)
    assert message(dataset).read_bytes() == octets


def test_an_entity_is_never_expanded(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    send_dataset(dataset)
    bomb = b"<!DOCTYPE a [" + b"".join(
        f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">'.encode() for n in range(9)
    )
    told = message(dataset).read_bytes().partition(b"?>")[2]
    message(dataset).write_bytes(bomb + b"]>" + told.replace(b"lyso_", b"&e9;", 1))

    with pytest.raises(NameTakenError):
        send_dataset(dataset)


def test_an_older_message_about_the_dataset_is_replaced(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    send_dataset(dataset)
    write_finished_scan(tmp_path, 2, metadata={"sample": {"name": "new"}})
    send_dataset(dataset)

    assert parameters_in(message(dataset).read_bytes())["Sample_name"] == "new"


def test_links_in_the_outbox_are_not_followed(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path / "root")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (".lock", "lyso@0001.xml", "lyso@0001.sent"):
        outbox(dataset).mkdir(exist_ok=True)
        (outbox(dataset) / name).symlink_to(victim)
        with pytest.raises(NameTakenError, match="symbolic link"):
            send_dataset(dataset)
        (outbox(dataset) / name).unlink()
    os.mkfifo(message(dataset))
    with pytest.raises(NameTakenError, match="FIFO"):
        send_dataset(dataset)

    assert victim.read_text() == "precious"


def test_an_outbox_that_is_no_folder_is_said(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path / "root")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    outbox(dataset).symlink_to(elsewhere)
    with pytest.raises(NameTakenError, match="not a folder"):
        send_dataset(dataset)
    outbox(dataset).unlink()
    outbox(dataset).write_text("")
    with pytest.raises(NameTakenError, match="not a folder"):
        send_dataset(dataset)

    assert [*elsewhere.iterdir()] == []


def test_a_dataset_outside_the_root_is_not_told_of(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path / "root")
    moved = tmp_path / "moved"
    dataset.rename(moved)
    dataset.symlink_to(moved)

    with pytest.raises(RootUnusableError, match="leads out of it"):
        send_dataset(dataset)


def test_a_damaged_note_is_said(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    outbox(dataset).mkdir()
    (outbox(dataset) / "lyso@0001.sent").write_text("{}")

    with pytest.raises(IcatMessageError, match="does not say what was sent"):
        send_dataset(dataset)


def test_a_folder_without_rights_is_said(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    dataset.parent.parent.chmod(0o555)
    try:
        with pytest.raises(RootUnusableError):
            send_dataset(dataset)
    finally:
        dataset.parent.parent.chmod(0o755)


@pytest.mark.parametrize(
    "text", ["", "a b", "host:0", "host:99999", "http://h", "[x]:1"]
)
def test_what_is_no_address_is_said(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        send_dataset(write_finished_scan(tmp_path), [text])


def test_the_commands_answer_in_words_and_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_finished_scan(tmp_path, metadata={"sample": {"hue": 1}})
    with running_broker() as broker:
        send = ["icat", "send", str(dataset), "--broker", broker.address]
        assert main(["icat", "pending", str(tmp_path)]) == 2
        assert main(["icat", "send", str(dataset)]) == 2
        assert main(send) == 0
        assert main(send) == 0
        assert main(["icat", "pending", str(tmp_path)]) == 0
        write_finished_scan(tmp_path, 2)
        assert main(send) == 2
        assert main([*send, "--again", "--json"]) == 0
    out, said = capsys.readouterr()

    lines = out.splitlines()
    assert lines[0].endswith(": never sent")
    assert lines[2].startswith("waiting: ")
    assert lines[3].startswith("sent: ")
    assert lines[4].startswith("sent before: ")
    assert lines[5] == "0 datasets pending"
    assert lines[6].startswith("changed: ")
    assert json.loads("\n".join(lines[7:]))["state"] == "sent"
    assert "ICAT has no key for sample/hue" in said
    assert main(["icat", "send", str(tmp_path)]) == 1


def test_the_error_of_a_broker_can_be_raised() -> None:
    assert "mq:61613" in str(BrokerError("mq:61613", "it is away"))
