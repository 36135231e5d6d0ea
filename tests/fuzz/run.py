"""Parsers fed with bytes that are steered by coverage: ``make fuzz MINUTES=5``.

``python -m tests.fuzz.run [libFuzzer's arguments]`` needs ``pip install atheris``. What
fails stands in a file ``crash-…`` here; with it as the argument it is run once more.
"""

import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Fuzz until one of libFuzzer's limits is reached."""
    # Here: it is no dependency, and what it steers by must be imported under its eyes.
    import atheris

    with atheris.instrument_imports(include=["scanbus"]):
        from tests.fuzz.parsers import fuzz_one, seeds

    with tempfile.TemporaryDirectory(prefix="scanbus-fuzz-") as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        is_again = any(Path(argument).is_file() for argument in sys.argv[1:])
        corpus = [] if is_again else [folder]
        atheris.Setup([*sys.argv, *corpus], fuzz_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
