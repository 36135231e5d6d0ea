"""What readers in node and in a browser show of a scan."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

from tests.checklist.judges import NODE, ask, ask_node, missing, program, run
from tests.checklist.readers import reads
from tests.checklist.sample import FRAME, Sample, mask

# Programs of others start slowly on a machine that has much to do.
pytestmark = pytest.mark.timeout(400)

PAGE = Path(__file__).parent / "h5web"
H5WASM = """
import { File, ready } from "h5wasm/node";
import { install_local_plugins } from "h5wasm-plugins";
const library = await ready;
library.activate_throwing_error_handler();
install_local_plugins(library);
const [path, ...names] = process.argv.slice(2);
const measured = new File(path, "r").get("/1.1/measurement");
const answer = names.map((name) => [name, measured.get(name).to_array()]);
console.log(JSON.stringify(Object.fromEntries(answer)));
"""


@reads("h5wasm in node", values="ok", spectra="ok", frames="ok", dataset="ok")
def test_h5wasm_reads_all_from_the_dataset(sample: Sample) -> None:
    names = ("th", "diode", "count", "comment", "mca_det0", "eiger", "cam", "noise")
    answer = ask_node(H5WASM, sample.dataset, *names)
    assert set(answer) == set(names)
    for name, values in answer.items():
        np.testing.assert_array_equal(values, sample.sent[name], err_msg=name)


# A server as jupyterlab-h5web has it; the browser is asked while it runs.
SERVED = """
import os, socket, subprocess, threading
import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from h5grove.fastapi_utils import router, settings
settings.base_dir, page, script, node, shown, *command = sys.argv[1:]
app = FastAPI()
app.include_router(router)
app.mount("/page", StaticFiles(directory=page))
with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [found]})
    thread.start()
    try:
        url = f"http://127.0.0.1:{found.getsockname()[1]}/page/index.html?{shown}"
        with open(script) as code:
            done = subprocess.run([*command, url], stdin=code, stdout=subprocess.PIPE,
                                  cwd=node, check=True, timeout=200)
    finally:
        server.should_exit = True
        thread.join()
answer = json.loads(done.stdout)
"""


def built_page(folder: Path) -> Path:
    """Bundle the page of H5Web with esbuild; return its folder."""
    if not (NODE / "node_modules").is_dir():
        missing(f"{NODE} has no H5Web: `make checklist` installs it")
    esbuild = NODE / "node_modules" / "esbuild" / "bin" / "esbuild"
    options = ["--bundle", "--minify", "--format=esm", "--jsx=automatic"]
    places = [str(PAGE / "main.jsx"), f"--outdir={folder}", "--log-level=error"]
    run(
        [program("node"), str(esbuild), *options, *places],
        env={**os.environ, "NODE_PATH": str(NODE / "node_modules")},
    )
    shutil.copy(PAGE / "index.html", folder)
    return folder


def colours_of_pixels(picture: np.ndarray) -> np.ndarray:
    """Return the colour in the middle of each pixel of a frame, row 0 lowest."""
    height, width = picture.shape[:2]
    size = min(height / FRAME[0], width / FRAME[1])
    rows = height / 2 + (FRAME[0] / 2 - np.arange(FRAME[0]) - 0.5) * size
    columns = width / 2 + (np.arange(FRAME[1]) + 0.5 - FRAME[1] / 2) * size
    red, green, blue = np.moveaxis(
        picture[rows.astype(int)[:, None], columns.astype(int)].astype(int), -1, 0
    )
    return np.asarray(red * 2**16 + green * 2**8 + blue)


@reads("H5Web", frames="ok", dataset="ok")
def test_h5web_draws_a_frame_with_a_sensible_scale(
    sample: Sample, tmp_path: Path
) -> None:
    picture = tmp_path / "frame.png"
    file = sample.dataset.relative_to(sample.root)
    shown = urlencode({"file": file, "path": "/1.1/measurement/eiger"})
    command = [program("node"), "--input-type=module", "-", program("chromium")]
    where = [sample.root, built_page(tmp_path / "page"), PAGE / "draw.mjs", NODE]
    scale = ask("h5grove", SERVED, *where, shown, *command, picture)

    frame, is_good = sample.sent["eiger"][0], mask() == 0
    assert scale == [frame[is_good].min(), frame[is_good].max()]
    colours = colours_of_pixels(np.asarray(Image.open(picture).convert("RGB")))
    found = {number: set(colours[frame == number]) for number in set(frame[is_good])}
    assert all(len(each) == 1 for each in found.values()), "a colour for each number"
    assert len(set.union(*found.values())) == len(found), "a number for each colour"
    assert set(colours[~is_good]) == {0xFFFFFF}, "masked pixels are white"
