"""The page of readers says what they showed."""

from __future__ import annotations

import os

import pytest

from tests.checklist.readers import PAGE, READERS, page


def test_the_page_of_readers_is_what_they_showed(
    shown: dict[str, dict[str, str]],
) -> None:
    if absent := set(READERS) - set(shown):
        pytest.skip(f"a part of the ring, or without some: {', '.join(sorted(absent))}")
    written = PAGE.read_text()
    expected = page(written, shown)
    if os.environ.get("WRITE_PAGES"):
        PAGE.write_text(expected)
    else:
        assert written == expected, "`make checklist` writes it again"
