"""Items 86 to 89: the catalogue ICAT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import h5py
import numpy as np
import pytest

from scanbus.publisher import Publisher
from scanbus.writer import (
    SendState,
    icat_from_nexus,
    nexus_from_icat,
    pending,
    send_dataset,
)
from tests.checklist.items import item
from tests.checklist.judges import ask, program
from tests.checklist.sample import FOLDERS, Sample
from tests.support.icat import closed_port
from tests.support.writers import final_verdict

# What pyicat-plus tests itself with: a broker, and an ingester that stores datasets.
BACKEND = """
from pathlib import Path
import time
from pyicat_plus_pytest_plugin import _mock_backend as mock
port, folder = int(sys.argv[1]), Path(sys.argv[2])
broker = mock.start_stomp_server(port, quiet=True)
with mock.tcp.tcp_message_server() as (port_out, messages):
    reader = mock.start_stomp_subscriber(
        port, port_out, mock.INGEST_QUEUE, folder, quiet=True)
    assert messages.get(timeout=30) == "LISTENING"
    print("LISTENING", flush=True)
    try:
        while True:
            print(json.dumps(messages.get(timeout=300), default=str), flush=True)
    finally:
        reader.kill()
        broker.kill()
"""


class Catalogue:
    """The ingester of pyicat-plus's tests, behind its broker.

    Attributes
    ----------
    address : str
        The broker's.
    """

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.address = f"127.0.0.1:{port}"
        self._process = process

    def message(self) -> dict[str, str]:
        """Return the parameters of what came next, as the ingester reads them."""
        assert self._process.stdout is not None
        found = json.loads(self._process.stdout.readline())
        given = found.get("parameter", ())
        return {each["name"]: each["value"] for each in given}

    def start_investigation(self, proposal: str) -> None:
        """Make a proposal known, as the user office does."""
        ask(
            "pyicat_plus",
            """
            from pyicat_plus.client.main import IcatClient
            client = IcatClient(metadata_urls=[sys.argv[1]])
            client.start_investigation(beamline="id00", proposal=sys.argv[2])
            client.disconnect()
            answer = True
            """,
            self.address,
            proposal,
        )
        self.message()


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    ask("coilmq", "answer = True")  # It is there.
    ask("pyicat_plus_pytest_plugin", "answer = True")
    port = closed_port()
    python = os.environ.get("JUDGES_PYTHON") or sys.executable
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    code = f"import json, sys\n{BACKEND}"
    folder = tmp_path / "icat"
    folder.mkdir()
    with subprocess.Popen(
        [python, "-c", code, str(port), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=kept,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "LISTENING"
        try:
            yield Catalogue(port, process)
        finally:
            os.killpg(process.pid, 9)


def dataset_of(sample: Sample, name: str) -> Path:
    return sample.masters[name].parent.parent


def parameters_in(octets: str) -> dict[str, str]:
    """Return the parameters of a message."""
    space = "{http://www.esrf.fr/icat}"
    found = ET.fromstring(octets).iter(f"{space}parameter")
    return {str(each[0].text): str(each[1].text) for each in found}


@pytest.fixture(scope="module")
def told(sample: Sample) -> dict[str, str]:
    """The message about the dataset of the sample, which has partial scans."""
    report = send_dataset(dataset_of(sample, "rich"))
    assert report.message is not None
    return parameters_in(report.message.read_text())


@item(86, "icat-esrf-definitions")
def test_86_all_fields_come_back(sample: Sample) -> None:
    sent = ask(
        "icat_esrf_definitions",
        """
        import warnings
        warnings.simplefilter("ignore")
        from icat_esrf_definitions.models.generate import generate_dataset
        answer = generate_dataset().to_icat_dict()
        """,
    )
    there = nexus_from_icat(sent)
    back = icat_from_nexus(there.values)

    assert len(sent) > 1200
    assert there.unknown == back.unknown == ()
    assert back.values == sent


@item(86, "icat-esrf-definitions")
def test_86_keys_that_are_published_come_back_from_the_file(sample: Sample) -> None:
    keys = {
        "Sample_name": "Lysozym Å",
        "Sample_description": "from hen",
        "InstrumentSource_current": "192.5",
        "SAXS_experimentType": "mail-in",
        "InstrumentMonochromator_energy": "12.4",
    }
    tree = nexus_from_icat(keys)
    assert (tree.unknown, tree.problems) == ((), ())
    with Publisher(sample.url) as publisher:
        folders = {**FOLDERS, "dataset": "icat"}
        with publisher.scan(title="icat", metadata=tree.values, **folders) as scan:  # type: ignore[arg-type]
            scan.channel("th")
            scan.send("th", np.arange(3.0))
    verdict = final_verdict(sample.url, scan.uid)
    with h5py.File(sample.root / verdict.master) as file:
        current = file["1.1/instrument/source/current"]
        assert current[()] == 192.5
        assert current.attrs["units"] == "mA"
    report = send_dataset((sample.root / verdict.master).parent.parent)

    assert report.parameters is not None
    assert {key: report.parameters.get(key) for key in keys} == keys


@item(87, "pyicat-plus")
def test_87_the_mandatory_keys_are_there(sample: Sample, told: dict[str, str]) -> None:
    dataset = dataset_of(sample, "rich")
    with h5py.File(sample.rich) as file:
        start = file["1.1/start_time"].asstr()[()]

    assert told["datasetName"] == dataset.name
    assert told["proposal"] == FOLDERS["proposal"]
    # Without what stands before /data: other machines mount it elsewhere.
    assert str(dataset).endswith(told["location"])
    assert told["Sample_name"] == "Lysozym Å"
    assert told["startDate"][:16].replace("Z", "") == _utc(start)[:16]
    assert told["endDate"] > told["startDate"]
    assert "Person" not in json.dumps(told)  # Nobody opted in.


def _utc(text: str) -> str:
    answer = ask(
        "icat_esrf_definitions",
        """
        from datetime import datetime, timezone
        moment = datetime.fromisoformat(sys.argv[1]).astimezone(timezone.utc)
        answer = moment.isoformat()
        """,
        text,
    )
    return str(answer)


@item(88, "pyicat-plus's mock broker")
def test_88_a_dataset_is_stored_once(sample: Sample, catalogue: Catalogue) -> None:
    dataset = dataset_of(sample, "tomo")
    catalogue.start_investigation(FOLDERS["proposal"])
    first = send_dataset(dataset, [catalogue.address])
    came = catalogue.message()
    second = send_dataset(dataset, [catalogue.address])
    # Sent on purpose: the next message there is.
    send_dataset(dataset, [catalogue.address], again=True)
    again = catalogue.message()

    assert (first.state, second.state) == (SendState.SENT, SendState.SENT_BEFORE)
    assert came["datasetName"] == dataset.name
    assert again == came
    assert str(dataset) not in {each.dataset for each in pending(sample.root)}


@item(88, "icat-store-from-file")
def test_88_what_waits_can_be_sent_by_others(
    sample: Sample, catalogue: Catalogue
) -> None:
    dataset = dataset_of(sample, "rich")
    waiting = send_dataset(dataset, [f"127.0.0.1:{closed_port()}"])
    assert waiting.state is SendState.WAITING
    assert waiting.message is not None
    assert waiting.message.parent.name == "__icat__"
    kept = parameters_in(waiting.message.read_text())
    subprocess.run(
        [
            program("icat-store-from-file"),
            str(waiting.message),
            "--queue",
            catalogue.address,
        ],
        check=True,
        env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
        timeout=60,
    )
    assert catalogue.message() == kept

    ours = send_dataset(dataset, [catalogue.address])
    assert ours.state is SendState.SENT
    assert catalogue.message() == kept


@item(88, "pyicat-plus's mock broker")
def test_88_a_watcher_sends_what_is_closed(
    sample: Sample, catalogue: Catalogue
) -> None:
    with Publisher(sample.url) as publisher:
        for name in ("first", "second"):
            folders = {**FOLDERS, "proposal": "hg777", "dataset": name}
            with publisher.scan(title=name, **folders) as scan:  # type: ignore[arg-type]
                scan.channel("th")
                scan.send("th", np.arange(3.0))
            final_verdict(sample.url, scan.uid)
            time.sleep(0.1)
    command = [sys.executable, "-m", "scanbus.cli", "icat", "watch", str(sample.root)]
    options = ["--broker", catalogue.address, "--period", "0.2"]
    with subprocess.Popen([*command, *options]) as process:
        try:
            while catalogue.message()["datasetName"] != "sample-A_first":
                pass
        finally:
            process.terminate()
    assert process.returncode == 0
    left = {Path(each.dataset).name for each in pending(sample.root)}
    assert "sample-A_second" in left
    assert "sample-A_first" not in left


@item(89, "pyicat-plus")
def test_89_compression_is_that_of_the_files(
    sample: Sample, told: dict[str, str]
) -> None:
    scopes = told["Compression_scope"].split(",")

    assert told["Compression_type"] == "lossless"
    assert told["Compression_codec"] == "bitshuffle"
    for scope in scopes:
        files, _, path = scope.partition("?path=")
        found = [*dataset_of(sample, "rich").glob(files)]
        assert found, scope
        for each in found:
            with h5py.File(each) as file:
                pipeline = file[path].id.get_create_plist()
                filters = [
                    pipeline.get_filter(n)[0] for n in range(pipeline.get_nfilters())
                ]
                assert filters == [32008]
    assert any("eiger_" in scope for scope in scopes)
