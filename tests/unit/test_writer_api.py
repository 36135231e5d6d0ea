"""What the writer offers to other components: all of it is there, and loads late."""

import pytest

import scanbus.writer


def test_whatever_is_offered_is_there() -> None:
    for name in scanbus.writer.__all__:
        assert getattr(scanbus.writer, name).__module__.startswith("scanbus.writer.")
    assert set(scanbus.writer.__all__) == set(scanbus.writer._MODULES)
    assert set(scanbus.writer.__all__) <= set(dir(scanbus.writer))


def test_whatever_is_not_offered_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'everything'"):
        scanbus.writer.everything  # noqa: B018
