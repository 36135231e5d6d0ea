"""A site's own layouts from the writer's settings to the files, and in commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.cli.app import run
from scanbus.publisher import Publisher
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import ConfigurationError, LayoutError
from scanbus.writer import WriterSettings, preview_scan, rebuild, replay, run_writer
from scanbus.writer.storage.scan_file import read_scan_file
from tests.support.roots import made_root
from tests.support.waiting import found_below

pytestmark = pytest.mark.redis

OTHER = (
    "layout other: scan0001_bm99.nxs is not written, as layout bm99 has a file of that "
    "name"
)
NODES = {
    "entry": {"group": "NXentry"},
    "entry/data": {"group": "NXdata", "attributes": {"signal": "frames"}},
    "entry/data/frames": {"channel": {"role": "detector"}, "required": True},
    "entry/data/angle": {"channel": "th"},
    "entry/energy": {"metadata": "instrument/energy", "units": "eV"},
}


def template(folder: Path, nodes: dict[str, Any], name: str = "bm99") -> Path:
    path = folder / f"{name}.json"
    said = {"name": name, "file": "{scan}_bm99.nxs", "nodes": nodes}
    path.write_text(json.dumps(said))
    return path


def publish(url: str, *layouts: str) -> str:
    """Publish a scan of an axis, a counter and frames; return its uid."""
    energy = {"instrument": {"energy": 12.5, "energy@units": "keV"}}
    with Publisher(url, close_timeout_s=0.0) as publisher:
        with publisher.scan(proposal="p1", layouts=layouts, metadata=energy) as scan:
            scan.channel("th", role="axis", units="deg")
            scan.channel("eiger", role="detector", shape=(4, 5), dtype="uint16")
            for number in range(3):
                scan.send("th", number / 2)
                scan.send("eiger", np.full((4, 5), number, "uint16"))
        wait_sent(url, [scan.uid])
    return scan.uid


def write(url: str, tmp_path: Path, *templates: Path, **others: Any) -> Path:
    root = made_root(tmp_path / "root")
    settings = WriterSettings.load(redis=url, root=root, templates=templates, **others)
    run_writer(settings, once=True)
    return found_below(root, "scan0001.h5")[0].parent


def assert_right(path: Path) -> None:
    with h5py.File(path) as file:
        frames = file["entry/data/frames"][()]
        np.testing.assert_array_equal(frames[:, 2, 3], [0, 1, 2])
        np.testing.assert_array_equal(file["entry/data/angle"], [0, 0.5, 1])
        assert file["entry/energy"][()] == 12500.0
        assert file["entry/energy"].attrs["units"] == "eV"


def test_a_scan_has_the_layout_of_the_site_also_years_later(
    redis_url: str, tmp_path: Path
) -> None:
    path = template(tmp_path, NODES)
    publish(redis_url, "bm99")
    folder = write(redis_url, tmp_path, path)
    assert_right(folder / "scan0001_bm99.nxs")
    found = read_scan_file(folder / "scan0001_values.h5")
    assert found.verdict.verdict is VerdictWord.COMPLETE
    assert found.verdict.notes == ()
    path.unlink()
    (folder / "scan0001_bm99.nxs").unlink()
    rebuild(tmp_path / "root")
    assert_right(folder / "scan0001_bm99.nxs")


def test_what_goes_wrong_with_a_layout_is_a_note_of_the_verdict(
    redis_url: str, tmp_path: Path
) -> None:
    more = NODES | {"entry/xia": {"channel": "xia", "required": True}}
    paths = template(tmp_path, more), template(tmp_path, NODES, "other")
    publish(redis_url)
    folder = write(redis_url, tmp_path, *paths, layouts=("bm99", "other"))
    verdict = read_scan_file(folder / "scan0001_values.h5").verdict
    assert verdict.verdict is VerdictWord.COMPLETE
    assert verdict.notes == (
        "layout bm99: the scan lacks a channel xia, for entry/xia",
        OTHER,
    )
    assert (folder / "scan0001.h5").exists()
    assert_right(folder / "scan0001_bm99.nxs")


def test_a_writer_with_a_wrong_template_does_not_start(
    redis_url: str, tmp_path: Path
) -> None:
    wrong = template(tmp_path, {**NODES, "entry/x": {"link": "/entry/y"}})
    with pytest.raises(ConfigurationError, match=r"node entry/x: .* leads nowhere"):
        write(redis_url, tmp_path, wrong)


def test_a_writer_with_an_unknown_layout_does_not_start(
    redis_url: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="did you mean bm99"):
        write(redis_url, tmp_path, template(tmp_path, NODES), layouts=("bm9",))


def test_a_replay_has_the_layouts_that_are_named(
    redis_url: str, tmp_path: Path
) -> None:
    uid = publish(redis_url, "esrf")
    path = template(tmp_path, NODES)
    again = tmp_path / "again"
    with pytest.raises(LayoutError):
        replay(redis_url, uid, again, layouts=("bm99",))
    assert not again.exists()
    replay(redis_url, uid, again, layouts=("bm99",), templates=(path,))
    assert_right(found_below(again, "scan0001_bm99.nxs")[0])


def test_a_scan_on_the_bus_is_shown_as_its_files_will_be(
    redis_url: str, tmp_path: Path
) -> None:
    uid = publish(redis_url, "bm99")
    path = template(tmp_path, NODES)
    shown = preview_scan(redis_url, uid, templates=(path,))
    write(redis_url, tmp_path, path)
    assert shown.notes == ()
    after = preview_scan(redis_url, uid, templates=(path,))
    entry = after.files["scan0001_bm99.nxs"]["children"]["entry"]["children"]
    assert entry["energy"]["value"] == 12500.0
    assert entry["data"]["children"]["frames"]["shape"] == [3, 4, 5]
    before = shown.files["scan0001_bm99.nxs"]["children"]["entry"]["children"]
    assert list(before) == list(entry)


def test_the_command_shows_everything_within_80_columns(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uid = publish(redis_url, "bm99")
    path = template(tmp_path, NODES)
    folder = write(redis_url, tmp_path, path)
    asked = ["--redis", redis_url]
    for words, expected in (
        ([], "nxmx"),
        (["nxmx"], "required:"),
        ([str(path)], "in order: 5 nodes"),
        (
            [uid, "--template", str(path), *asked],
            "frames: uint16 3x4x5, copy of scan0001_values.h5",
        ),
        ([str(folder)], "scan0001_bm99.nxs:NXroot"),
        (
            [folder.name, "--root", str(folder.parent), "--layout", "esrf"],
            "1.1:NXentry",
        ),
    ):
        capsys.readouterr()
        assert run(["layout", *words]) == 0
        shown = capsys.readouterr().out
        assert expected in shown
        assert max(map(len, shown.splitlines())) <= 80
        assert run(["layout", *words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nosuch.toml"], "is no file"),
        (["last", "--layout", "nxmxx"], "did you mean nxmx"),
        (["abcdefgh"], "abcdefgh"),
        (["/nowhere/scan0001"], "there is no such file"),
    ],
)
def test_the_command_ends_with_a_sentence(
    redis_url: str,
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(redis_url)
    capsys.readouterr()
    assert run(["layout", *words, "--redis", redis_url]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_rebuild_adds_a_layout_and_names_what_is_missing(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(redis_url)
    folder = write(redis_url, tmp_path)
    more = NODES | {"entry/xia": {"channel": "xia", "required": True}}
    asked = ["--layout", "bm99", "--template", str(template(tmp_path, more))]
    root = ["--root", str(tmp_path / "root")]
    assert run(["master", "rebuild", *root, *asked]) == 0
    assert "the scan lacks a channel xia" in capsys.readouterr().err
    assert_right(folder / "scan0001_bm99.nxs")
    (folder / "scan0001_bm99.nxs").unlink()
    assert run(["master", "rebuild", *root]) == 0
    assert_right(folder / "scan0001_bm99.nxs")
    assert run(["check", str(folder), "--all"]) == 0
