"""A frame has a short way into the queue: who changes it has little to read."""

import pytest

from tests.support.frame_path import path_of_a_frame


@pytest.mark.parametrize("pause_s", [0.0, 0.5])
def test_a_frame_visits_at_most_eight_short_modules(
    redis_url: str, pause_s: float
) -> None:
    path = path_of_a_frame(redis_url, pause_s)

    assert 4 <= len(path) <= 8, path
    assert max(path.values()) < 300, path
    assert next(iter(path)) == "scan.py"
    assert "queue/frame_lane.py" in path
