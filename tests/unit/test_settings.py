"""Settings of the writer: sizes as people write them, sentences about what is wrong."""

from pathlib import Path

import pytest

from scanbus.schemas.errors import ConfigurationError
from scanbus.writer import WriterSettings

A_SIZE = "a number of bytes, such as 4000000000, 4GB or 4GiB,"


def settings_from(folder: Path, text: str) -> WriterSettings:
    file = folder / "writer.toml"
    file.write_text(text)
    return WriterSettings.load(file)


@pytest.mark.parametrize(
    ("said", "n_bytes"),
    [
        ("4000000000", 4 * 10**9),
        ('"4000000000"', 4 * 10**9),
        ('"4GB"', 4 * 10**9),
        ('"4 GiB"', 4 * 2**30),
        ('"4.5mb"', 4_500_000),
    ],
)
@pytest.mark.parametrize(
    "name", ["memory_bytes", "read_bytes", "least_free_bytes", "low_water_bytes"]
)
def test_sizes_may_have_a_unit(
    name: str, said: str, n_bytes: int, tmp_path: Path
) -> None:
    settings = settings_from(tmp_path, f'root = "/data"\n{name} = {said}\n')
    assert getattr(settings, name) == n_bytes
    again = WriterSettings.model_validate_json(settings.to_message())
    assert getattr(again, name) == n_bytes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('rooot = "/data"', "setting rooot: no such setting; did you mean root?"),
        (
            'root = "/data"\nleese_s = 4',
            "setting leese_s: no such setting; did you mean lease_s?",
        ),
        ('root = "/data"\ncolour = 4', "setting colour: no such setting"),
        (
            "lease_s = 4",
            (
                "setting root: missing; give --root, SCANBUS_ROOT, or root in the "
                "configuration file"
            ),
        ),
        (
            'root = "/data"\nmemory_bytes = "much"',
            f"setting memory_bytes: {A_SIZE} is needed, not 'much'",
        ),
        (
            'root = "/data"\nmemory_bytes = "4XB"',
            f"setting memory_bytes: {A_SIZE} is needed, not '4XB'",
        ),
        (
            'root = "/data"\nworkers = "two"',
            "setting workers: a whole number is needed, not 'two'",
        ),
        (
            'root = "/data"\nlease_s = "10 s"',
            "setting lease_s: a number is needed, not '10 s'",
        ),
        (
            'root = "/data"\nmemory_bytes = 0',
            "setting memory_bytes: must be greater than 0",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_wrong(
    text: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_from(tmp_path, text)
    assert str(caught.value) == sentence


def test_a_slip_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANBUS_ROOOT", "/data")
    with pytest.raises(ConfigurationError, match=r"did you mean SCANBUS_ROOT\?"):
        WriterSettings.load()
