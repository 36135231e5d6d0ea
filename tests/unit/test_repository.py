"""The repository keeps the shape that every packaging tool understands."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

COMPONENTS = ("schemas", "bus", "publisher", "subscriber", "writer", "cli")


@pytest.fixture(scope="module")
def pyproject(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_folder_holds_nothing_importable_but_scanbus(
    component: str, repository: Path
) -> None:
    """`dev-mode-dirs` puts the folder itself on the path: a stray util.py there would
    be importable as `util`."""
    folder = repository / component
    strays = [
        entry.name
        for entry in folder.iterdir()
        if entry.name not in ("scanbus", "__pycache__") and not _is_document(entry)
    ]
    assert strays == []


def _is_document(path: Path) -> bool:
    return path.is_file() and path.suffix in {".md", ".toml", ".json", ".txt"}


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_namespace_has_no_init_that_would_hide_the_other_components(
    component: str, repository: Path
) -> None:
    portion = repository / component / "scanbus"
    entries = {entry.name for entry in portion.iterdir()} - {"__pycache__"}
    assert entries == {component}


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_is_a_typed_package(component: str, repository: Path) -> None:
    package = repository / component / "scanbus" / component
    assert (package / "py.typed").is_file()
    assert (package / "__init__.py").is_file()


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_is_known_to_every_tool(
    component: str, pyproject: dict[str, Any]
) -> None:
    tool = pyproject["tool"]
    assert component in tool["hatch"]["build"]["dev-mode-dirs"]
    wheel = tool["hatch"]["build"]["targets"]["wheel"]
    assert f"{component}/scanbus" in wheel["packages"]
    assert f"/{component}" in tool["hatch"]["build"]["targets"]["sdist"]["include"]
    assert component in tool["ruff"]["src"]
    assert component in tool["mypy"]["mypy_path"].split(":")
    assert component in tool["pyright"]["extraPaths"]
    assert component in tool["pytest"]["ini_options"]["testpaths"]
    assert f"scanbus.{component}" in tool["importlinter"]["root_packages"]


def test_only_the_store_calls_commands_of_a_redis_client(repository: Path) -> None:
    """Contracts on imports cannot see this: clients are passed from hand to hand."""
    calls = re.compile(r"\b_?client\.(?!close\b)\w+\(")
    store = repository / "bus/scanbus/bus/store"
    found = [
        f"{path.relative_to(repository)}: {call}"
        for component in COMPONENTS
        for path in sorted((repository / component).rglob("*.py"))
        if not path.is_relative_to(store)
        for call in calls.findall(path.read_text())
    ]
    assert found == []


def test_only_one_module_gives_files_their_final_names(repository: Path) -> None:
    """Some file systems refuse hard links, and a rename may replace a file."""
    calls = re.compile(r"\bos\.(?:link|rename)\(|\b(?:hardlink_to|link_to)\(")
    storage = repository / "writer/scanbus/writer/storage"
    gateways = repository / "publisher/scanbus/publisher/gateways"
    # The second one tries what a file system has; the third links files of detectors,
    # and copies them where that is refused; the last one keeps a replaced master under
    # a hidden name, where that can be done.
    allowed = (
        storage / "exclusive_names.py",
        storage / "file_system.py",
        gateways / "files/watch/after_verdict.py",
        storage.parent / "masters/write.py",
    )
    found = [
        f"{path.relative_to(repository)}: {call}"
        for component in COMPONENTS
        for path in sorted((repository / component).rglob("*.py"))
        if path not in allowed
        for call in calls.findall(path.read_text())
    ]
    assert found == []


def test_no_module_is_called_utils(repository: Path) -> None:
    names = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    for component in COMPONENTS:
        found = [p for p in (repository / component).rglob("*.py") if p.name in names]
        assert found == []


def test_all_gathers_every_extra_that_is_for_users(pyproject: dict[str, Any]) -> None:
    extras = pyproject["project"]["optional-dependencies"]
    (gathered,) = extras["all"]
    match = re.fullmatch(r"scanbus\[(.+)\]", gathered)
    assert match is not None
    assert set(match[1].split(",")) == set(extras) - {"all", "test", "judges", "lint"}


def test_no_machine_or_registry_is_named_in_the_files_that_ship(
    repository: Path,
) -> None:
    pattern = re.compile(r"(?:/home/\w+|/root/|--index-url|--find-links|/\.pyenv/)")
    shipped = [repository / "pyproject.toml", repository / "Makefile"]
    shipped += [p for p in (repository / "deploy").rglob("*") if p.is_file()]
    named = [str(p) for p in shipped if pattern.search(p.read_text())]
    assert named == []
