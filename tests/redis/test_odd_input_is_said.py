"""What cannot be written as it was given is said in the file, and all is written."""

from pathlib import Path

import h5py
import numpy as np

from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.support.writers import final_verdict, writer


def test_names_units_and_types_that_files_cannot_have(
    redis_url: str, tmp_path: Path
) -> None:
    odd = {"sample": {"x-y": 1, "x_y": 2, "owner": object()}}
    with writer(redis_url, tmp_path), Publisher(redis_url) as publisher:
        with publisher.scan(metadata=odd) as scan:
            scan.channel("c-1", units="furlong/flop!")
            scan.channel("c_1", units="A")
            scan.send("c-1", np.arange(4.0))
            scan.send("c_1", np.arange(4.0) + 1)
        verdict = final_verdict(redis_url, scan.uid)
    assert verdict.verdict is VerdictWord.COMPLETE
    with h5py.File(tmp_path / verdict.master) as file:
        entry = file["1.1"]
        assert entry["measurement/c_1"][0] == 1
        assert entry["measurement/c_1_2"][0] == 0
        assert entry["measurement/c_1_2"].attrs["units"] == "furlong/flop!"
        assert (entry["sample/x_y"][()], entry["sample/x_y_2"][()]) == (2, 1)
        said = {
            text.partition(":")[0]: text for text in entry["scanbus/remarks"].asstr()
        }
    assert "'c-1'" in said["/instrument/c_1_2"]
    assert "'x-y'" in said["/sample/x_y_2"]
    assert "text of object" in said["/sample/owner"]
    assert "furlong/flop!" in said["/instrument/c_1_2/data"]
