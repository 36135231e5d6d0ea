"""Items 41 to 50, 80, 90 to 92: points, chunks, filters."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.codecs import CODEC_NAMES, DEFAULT_CODEC, find_codec
from scanbus.schemas import VerdictWord
from scanbus.writer import check_files
from tests.checklist.items import item
from tests.checklist.judges import ask, program
from tests.checklist.problems import problems
from tests.checklist.readers import reads
from tests.checklist.sample import N_POINTS, Sample, mask

FRAMES = "entry_0000/measurement/data"
# deflate, shuffle, LZ4, Blosc2, Zstandard, Bitshuffle: h5wasm has plugins for them.
IN_BROWSERS = {1, 2, 32004, 32026, 32015, 32008}


def segments(sample: Sample, name: str) -> list[Path]:
    return sorted(sample.rich.parent.glob(f"{name}_*.h5"))


def filters(path: Path) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the filters of all datasets of a file, and their options."""
    found: list[tuple[int, tuple[int, ...]]] = []

    def look(_: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset):
            plist = node.id.get_create_plist()
            for index in range(plist.get_nfilters()):
                number, _, options, _ = plist.get_filter(index)
                found.append((number, options))

    with h5py.File(path) as file:
        file.visititems(look)
    yield from found


@item(41, "h5py")
def test_41_all_points_are_in_the_file(sample: Sample) -> None:
    assert problems(sample, 41) == []
    with h5py.File(sample.rich) as file:
        for name in ("th", "count", "eiger", "cam", "mca_det0", "comment"):
            assert len(file[f"1.1/measurement/{name}"]) == N_POINTS


@item(41, "h5py visititems")
def test_41_walkers_find_the_values_of_every_channel(sample: Sample) -> None:
    with h5py.File(sample.rich) as file:
        found: set[str] = set()

        def look(path: str, node: h5py.Group | h5py.Dataset) -> None:
            if isinstance(node, h5py.Dataset):
                found.add(f"/{path}")

        file.visititems(look)
        links = file["1.1/measurement"]
        originals = {links.get(name, getlink=True).path for name in links}
    assert len(originals) == len(sample.sent)
    assert originals <= found


@item(41, "silx convert")
def test_41_silx_converts_every_channel(sample: Sample, tmp_path: Path) -> None:
    converted = tmp_path / "converted.h5"
    command = [program("silx"), "convert", str(sample.dataset), "-o", str(converted)]
    subprocess.run(command, capture_output=True, check=True)
    with h5py.File(converted) as made, h5py.File(sample.rich) as file:
        assert list(made) == ["1.1", "2.1", "3.1", "4.1"]
        originals, copies = file["1.1/measurement"], made["1.1/measurement"]
        assert set(copies) == set(originals)
        for name, original in originals.items():
            np.testing.assert_array_equal(copies[name][()], original[()])


@item(42, "h5py")
def test_42_ragged_points_are_padded_and_have_lengths(sample: Sample) -> None:
    with h5py.File(sample.rich) as file:
        padded = file["1.1/instrument/peaks/data"][()]
        lengths = file["1.1/instrument/peaks/data__length"][()]
    for row, length, sent in zip(padded, lengths, sample.sent["peaks"], strict=True):
        np.testing.assert_array_equal(row[:length], sent)
        assert np.isnan(row[length:]).all()


@item(43, "h5py")
def test_43_gaps_are_listed_and_filled(sample: Sample) -> None:
    assert problems(sample, 43) == []
    assert sample.verdicts["gaps"].verdict is VerdictWord.PARTIAL
    with h5py.File(sample.masters["gaps"]) as file:
        gaps = file["3.1/scanbus/ledger/missing/eiger"]
        assert gaps[()].tolist() == [[2, 4]]
        frames = file["3.1/measurement/eiger"]
        assert (frames[2:4] == 65535).all()
        assert frames[4, 0, 0] == 2


@item(44, "h5py")
def test_44_the_fill_value_of_frames_is_named(sample: Sample) -> None:
    assert problems(sample, 44) == []
    with h5py.File(sample.masters["gaps"]) as file:
        frames = file["3.1/measurement/eiger"]
        assert frames.attrs["_FillValue"] == frames.fillvalue == 65535
        assert frames.attrs.get_id("_FillValue").shape == ()


@item(45, "h5py")
def test_45_chunks_are_frames(sample: Sample) -> None:
    assert problems(sample, 45) == []
    for path in segments(sample, "eiger"):
        with h5py.File(path) as file:
            assert file[FRAMES].chunks == (1, *file[FRAMES].shape[1:])


@item(46, "h5py")
def test_46_options_of_bitshuffle_are_its_own(sample: Sample) -> None:
    assert problems(sample, 46) == []
    for path in segments(sample, "eiger"):
        options = [said for number, said in filters(path) if number == 32008]
        assert all(said[2:5] == (4, 0, 2) for said in options[:1])
        assert options


@item(46, "dectris-compression")
@reads("dectris-compression", frames="ok: chunks of data files")
def test_46_dectris_decodes_our_chunks(sample: Sample) -> None:
    (path, *_) = segments(sample, "eiger")
    answer = ask(
        "dectris",
        """
        import h5py
        import numpy as np
        from dectris.compression import decompress
        with h5py.File(sys.argv[1]) as file:
            dataset = file["entry_0000/measurement/data"]
            _, chunk = dataset.id.read_direct_chunk((0, 0, 0))
            frame = decompress(bytes(chunk), "bslz4", elem_size=dataset.dtype.itemsize)
            answer = np.frombuffer(frame, dataset.dtype).tolist()
        """,
        path,
    )
    np.testing.assert_array_equal(answer, sample.sent["eiger"][0].ravel())


@item(47, "h5py")
def test_47_compressed_frames_pass_through(sample: Sample) -> None:
    codec = find_codec("bitshuffle-lz4")
    point = 0
    for path in segments(sample, "eiger"):
        with h5py.File(path) as file:
            for number in range(len(file[FRAMES])):
                _, chunk = file[FRAMES].id.read_direct_chunk((number, 0, 0))
                sent = codec.encode(sample.sent["eiger"][point][None])
                assert bytes(chunk) == bytes(sent)
                point += 1
    assert point == N_POINTS


@item(48, "h5py")
def test_48_an_incompressible_frame_hardly_grows(sample: Sample) -> None:
    point = 0
    for path in segments(sample, "noise"):
        with h5py.File(path) as file:
            for number in range(len(file[FRAMES])):
                _, chunk = file[FRAMES].id.read_direct_chunk((number, 0, 0))
                frame = sample.sent["noise"][point]
                assert len(chunk) < 1.02 * frame.nbytes
                np.testing.assert_array_equal(file[FRAMES][number], frame)
                point += 1


@item(49, "scanbus check")
def test_49_a_flipped_bit_is_found(sample: Sample, tmp_path: Path) -> None:
    assert check_files([sample.rich], everything=True).ok
    folder = tmp_path / sample.rich.parent.name
    shutil.copytree(sample.rich.parent, folder)
    damaged = folder / segments(sample, "eiger")[0].name
    with h5py.File(damaged) as file:
        place = file[FRAMES].id.get_chunk_info(0).byte_offset
    with damaged.open("r+b") as raw:
        raw.seek(place + 20)
        octet = raw.read(1)[0]
        raw.seek(place + 20)
        raw.write(bytes([octet ^ 1]))
    report = check_files([damaged], everything=True)
    assert any(damaged.name in str(found) for found in report.findings)


@item(50, "h5py")
def test_50_types_and_values_are_those_that_were_sent(sample: Sample) -> None:
    assert problems(sample, 50) == []
    with h5py.File(sample.rich) as file:
        for name in ("th", "diode", "count", "open", "mca_det0", "eiger", "cam"):
            found, sent = file[f"1.1/measurement/{name}"], sample.sent[name]
            assert found.dtype == sent.dtype
            np.testing.assert_array_equal(found[()], sent)


@item(80, "h5py")
def test_80_the_pixel_mask_is_as_it_was_sent(sample: Sample) -> None:
    with h5py.File(sample.rich) as file:
        found = file["1.1/instrument/eiger/pixel_mask"]
        assert found.dtype == np.uint32
        np.testing.assert_array_equal(found, mask())


@item(90, "h5py")
def test_90_no_codec_loses_anything(sample: Sample) -> None:
    assert DEFAULT_CODEC in CODEC_NAMES
    frame = sample.sent["noise"][:1]
    for name in CODEC_NAMES:
        codec = find_codec(name)
        packed = bytes(codec.encode(frame))
        np.testing.assert_array_equal(
            codec.decode(packed, frame.dtype, frame.shape), frame
        )


@item(91, "h5py")
def test_91_nothing_is_quantised_unsaid(sample: Sample) -> None:
    for path in sample.files:
        with h5py.File(path) as file:
            names: set[str] = set()
            file.visititems(lambda _, node, names=names: names.update(node.attrs))
        assert not [name for name in names if name.startswith("_Quantize")]
    with h5py.File(sample.rich) as file:
        sent = sample.sent["diode"]
        assert file["1.1/measurement/diode"][()].tobytes() == sent.tobytes()


@item(92, "h5py")
@pytest.mark.parametrize("name", CODEC_NAMES)
def test_92_filters_are_those_of_browsers(name: str, sample: Sample) -> None:
    used = {one.id for one in find_codec(name).filters(np.dtype("u2"), (1, 64, 64))}
    for path in sample.files:
        used |= {number for number, _ in filters(path)}
    assert used <= IN_BROWSERS
