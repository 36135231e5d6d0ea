"""Names of folders, from those that people give to samples and proposals."""

from __future__ import annotations

from string import ascii_letters

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from scanbus.schemas.valid_names import FolderName, folder_name, unique_name

CHECK = TypeAdapter(FolderName)
TEXTS = st.text(ascii_letters[:3] + "-_. :/\xe9\0\ud800", min_size=1, max_size=90)


def is_elsewhere(text: str) -> bool:
    return text.startswith("/") or not {".", ".."}.isdisjoint(text.split("/"))


@given(TEXTS.filter(lambda text: not is_elsewhere(text)))
def test_any_name_becomes_that_of_a_folder_always_the_same(text: str) -> None:
    name = folder_name(text)
    assert CHECK.validate_python(name) == name
    assert folder_name(name) == name


@given(st.sets(TEXTS, min_size=2))
def test_two_names_never_share_a_folder(texts: set[str]) -> None:
    assert len({folder_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("text", ["", "..", "../x", "/x", "a/../b", "a/.", "./a"])
def test_what_leads_elsewhere_is_no_name(text: str) -> None:
    with pytest.raises(ValidationError):
        CHECK.validate_python(folder_name(text))


@given(st.integers(0, 3000), st.text("ab\xe9", min_size=1, max_size=70))
def test_a_suffix_is_the_first_that_is_free(n_taken: int, wanted: str) -> None:
    taken: set[str] = set()
    for _ in range(n_taken % 70):
        taken.add(unique_name(wanted, taken))
    found = unique_name(wanted, taken)
    assert found not in taken
    assert len(found) <= 63
    if taken:
        assert found.endswith(f"_{len(taken) + 1}")
