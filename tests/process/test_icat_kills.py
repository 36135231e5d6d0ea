"""A sender that is killed anywhere: the message is sent, and twice at one step only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scanbus.writer import SendState, pending, send_dataset
from tests.support.icat import (
    START_S,
    Broker,
    answer_all,
    closed_port,
    frames,
    running_broker,
    write_finished_scan,
)
from tests.support.waiting import wait_until

MODULE = "tests.support.killed_icat"
N_KILLS = 30


def outbox(dataset: Path) -> set[str]:
    folder = dataset.parent.parent / "__icat__"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.long
@pytest.mark.timeout(600)  # A process for each step, each loads ICAT's definitions.
def test_a_kill_at_each_step_loses_no_message(tmp_path: Path) -> None:
    """Sent twice only if killed after the broker had it, and before that was noted."""
    datasets = [write_finished_scan(tmp_path / str(n)) for n in range(N_KILLS)]
    command = [sys.executable, "-m", MODULE]
    with running_broker() as broker:
        done = subprocess.run(
            [*command, broker.address, *map(str, datasets)],
            capture_output=True,
            text=True,
            check=True,
        )
        codes = [
            int(line) for line in done.stdout.splitlines() if line.strip("-").isdigit()
        ]
        before = by_dataset(broker.messages)
        noted = ["lyso@0001.sent" in outbox(dataset) for dataset in datasets]
        reports = [send_dataset(dataset, [broker.address]) for dataset in datasets]
        after = by_dataset(broker.messages)

    n_killed = codes.count(-signal.SIGKILL)
    assert codes == [-signal.SIGKILL] * n_killed + [0] * (N_KILLS - n_killed)
    assert 8 < n_killed < N_KILLS, "not each step was there"
    for dataset, was_noted, report in zip(datasets, noted, reports, strict=True):
        sent = after[str(dataset)]
        # Twice the same bytes at most: ICAT has one dataset.
        assert len(sent) in (1, 2)
        assert len(set(sent)) == 1
        assert len(before.get(str(dataset), [])) == 1 or not was_noted
        assert report.state is (SendState.SENT_BEFORE if was_noted else SendState.SENT)
        assert "lyso@0001.xml" not in outbox(dataset)
    # Killed when the note was opened, and when it got its name.
    assert [len(sent) for sent in after.values()].count(2) == 2
    assert all(pending(tmp_path / str(n)) == () for n in range(N_KILLS))


def by_dataset(messages: list[bytes]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for each in messages:
        location = each.partition(b"location>")[2].partition(b"<")[0].decode()
        found.setdefault(location, []).append(each)
    return found


def test_a_kill_while_the_broker_hangs_leaves_the_message(tmp_path: Path) -> None:
    dataset = write_finished_scan(tmp_path)
    taken = threading.Event()

    def hang(broker: Broker, connection: object) -> None:
        for command, _, body in frames(connection):  # type: ignore[arg-type]
            if command == "CONNECT":
                connection.sendall(b"CONNECTED\n\n\0")  # type: ignore[attr-defined]
            else:
                broker.messages.append(body)
                taken.set()

    with running_broker(hang) as broker:
        command = [sys.executable, "-m", "scanbus.cli", "icat", "send", str(dataset)]
        options = ["--broker", broker.address, "--timeout", "100"]
        with subprocess.Popen([*command, *options]) as process:
            assert taken.wait(60)
            process.kill()
    kept = (dataset.parent.parent / "__icat__" / "lyso@0001.xml").read_bytes()

    assert broker.messages == [kept]
    with running_broker(answer_all) as good:
        assert send_dataset(dataset, [good.address]).state is SendState.SENT
    assert good.messages == [kept]


def watch(root: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "scanbus.cli", "icat", "watch", str(root)]
    return subprocess.Popen(
        [*command, "--period", "0.2", *options], stderr=subprocess.PIPE, text=True
    )


def closed_datasets(root: Path, n: int) -> list[Path]:
    return [
        write_finished_scan(
            root, dataset=f"{number:04d}", start_s=START_S + 100 * number
        )
        for number in range(n + 1)
    ][:n]


def test_two_watchers_send_each_message_once(tmp_path: Path) -> None:
    closed_datasets(tmp_path, 6)
    with running_broker() as broker:
        watchers = [watch(tmp_path, "--broker", broker.address) for _ in range(2)]
        wait_until(lambda: len(pending(tmp_path)) == 1)
        time.sleep(1)
        for each in watchers:
            each.send_signal(signal.SIGTERM)
        said = [each.communicate(timeout=30)[1] for each in watchers]

    assert [each.returncode for each in watchers] == [0, 0], said
    assert len(broker.messages) == len(set(broker.messages)) == 6


def test_a_watcher_sends_when_the_broker_is_back(tmp_path: Path) -> None:
    datasets = closed_datasets(tmp_path, 3)
    # So old that a new watcher would leave them alone: what waits is sent all the same.
    port = closed_port()
    away = watch(tmp_path, "--broker", f"127.0.0.1:{port}")
    folder = datasets[0].parent.parent / "__icat__"
    wait_until(lambda: len([*folder.glob("*.xml")]) == 3)
    away.kill()
    said = away.communicate()[1]
    assert said.count("broker_lost") == 1
    kept = {path.read_bytes() for path in folder.glob("*.xml")}
    for dataset in datasets:
        os.utime(dataset, (START_S, START_S))

    with running_broker() as broker:
        back = watch(tmp_path, "--broker", broker.address)
        wait_until(lambda: len([*folder.glob("*.sent")]) == 3)
        back.terminate()
        assert "dataset_sent" in back.communicate(timeout=30)[1]
    assert back.returncode == 0
    assert set(broker.messages) == kept


def test_one_watcher_outlives_its_broker(tmp_path: Path) -> None:
    closed_datasets(tmp_path, 2)
    with running_broker() as broker:
        port = broker.port
        process = watch(tmp_path, "--broker", broker.address)
        wait_until(lambda: len(broker.messages) == 2)
    write_finished_scan(tmp_path, dataset="0009", start_s=START_S + 900)
    folder = tmp_path / "HG123/id00/20240131/RAW_DATA/__icat__"
    wait_until((folder / "lyso@0002.xml").exists)

    with running_broker(port=port) as again:
        wait_until(lambda: len(again.messages) == 1)
        wait_until(lambda: not (folder / "lyso@0002.xml").exists())
        process.terminate()
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 0
    assert said.count("broker_lost") == said.count("broker_restored") == 1


def test_damage_in_one_dataset_keeps_no_other_back(tmp_path: Path) -> None:
    datasets = closed_datasets(tmp_path, 3)
    (datasets[0] / "scan0001" / "scan0001_values.h5").write_bytes(b"no HDF5")
    folder = datasets[0].parent.parent / "__icat__"
    folder.mkdir()
    (folder / "lyso@0001.xml").write_bytes(b"no XML")
    with running_broker() as broker:
        process = watch(tmp_path, "--broker", broker.address, "--once")
        said = process.communicate(timeout=60)[1]

    assert process.returncode == 2
    assert len(broker.messages) == 1
    assert said.count("dataset_not_sent") == 2
    assert "Traceback" not in said


def test_old_datasets_are_left_alone(tmp_path: Path) -> None:
    datasets = closed_datasets(tmp_path, 1)
    os.utime(datasets[0], (START_S, START_S))
    with running_broker() as broker:
        process = watch(tmp_path, "--broker", broker.address, "--once")
        process.communicate(timeout=60)

    assert broker.messages == []
    assert str(datasets[0]) in {each.dataset for each in pending(tmp_path)}


@pytest.mark.parametrize("root", ["", "nowhere"])
def test_a_watcher_without_a_root_says_so(root: str, tmp_path: Path) -> None:
    process = watch(tmp_path / root, "--once")
    said = process.communicate(timeout=60)[1]

    assert process.returncode == 1
    assert "is no root of scanbus" in said
