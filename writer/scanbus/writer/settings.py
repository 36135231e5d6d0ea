"""Settings of the writer, read once at start from a file, the environment and flags."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from scanbus.bus.protocol import (
    ALLOCATED_SHARE,
    BUDGET_FRACTION,
    DEFAULT_MEMORY_BYTES,
    HEARTBEAT_S,
    LEASE_S,
    MOST_WATERMARK,
)
from scanbus.bus.store import DEFAULT_URL, ServerAddress
from scanbus.schemas.errors import ConfigurationError
from scanbus.schemas.wording import problem_text
from scanbus.writer.steps import FAILPOINT_LOG_VARIABLE, FAILPOINTS_VARIABLE

__all__ = ["WriterSettings"]

_TEXTS = "template_texts"


def _leaves_the_budget(watermark: float) -> float:
    """Refuse a watermark above which publishers would not find their budget free."""
    if watermark > MOST_WATERMARK:
        share = 100 * BUDGET_FRACTION * (ALLOCATED_SHARE + watermark)
        raise ValueError(
            f"{watermark:g} lets publishers and kept data use {share:.0f} % of Redis' "
            f"memory together; at most {MOST_WATERMARK:g}"
        )
    return watermark


def _split_paths(given: Any) -> Any:
    if isinstance(given, str):
        return [part for part in given.split(os.pathsep) if part]
    if isinstance(given, list | tuple):
        return [_path_given(each) for each in given]
    return given


def _split_names(given: Any) -> Any:
    if isinstance(given, str):
        return [part for part in given.replace(",", " ").split() if part]
    return given


def _path_given(given: Any) -> Any:
    """Refuse an empty path: it would stand for the current folder."""
    if given == "":
        raise ValueError("the path is empty")
    return given


class WriterSettings(BaseSettings):
    """Settings of one writer process.

    Flags override the environment (``SCANBUS_…``), which overrides the TOML file.
    Numbers of bytes may have a unit: ``"4GB"``, ``"16MiB"``.

    Attributes
    ----------
    redis : str
        Address of the Redis server; shown without its password.
    root : pathlib.Path
        Folder below which all files are written.
    allowed_roots : tuple of pathlib.Path
        Other roots, to which symbolic links below the root may lead; in the environment
        separated by colons.
    external_roots : tuple of pathlib.Path
        Folders below which files of detectors are opened, to which frames by reference
        refer; in the environment separated by colons.
    reference_wait_s : float
        How long a scan that ended waits for such files, in seconds.
    memory_bytes : int
        Memory size of Redis where no ``maxmemory`` is configured.
    watermark : float
        Fraction of the bus's memory budget above which acknowledged data are trimmed.
    lease_s : float
        Lease duration; after it expires another writer may take over.
    heartbeat_s : float
        Heartbeat interval, at most 20 s.
    flush_s : float
        Interval at which temporary files are flushed.
    poll_s : float
        Longest interval between looks for new scans and metadata; twice that for the
        metadata of a scan that sends no points.
    retry_s : float
        Pause before a failed scan is tried again.
    read_bytes : int
        Largest number of bytes per read from Redis, per scan.
    master_s : float
        Age of a running scan's master at most, unless writing it takes more than a 20th
        of that.
    copied_bytes : int
        Bytes of small values that a scan's master copies; larger ones it maps.
    least_free_bytes : int
        Free disk space below which scans neither start nor continue.
    low_water_bytes : int
        Free disk space below which a warning is logged.
    grace_s : float
        How long a segment that was joined with others stays after the last master that
        named it was replaced.
    wanted_sources : int
        Number of detector files of a scan above which finished segments are joined.
    manifest : bool
        Whether each scan gets a manifest, the SHA-256 of its files.
    layouts : tuple of str
        Layouts of the files of scans that ask for none, besides the scan master; in the
        environment separated by commas.
    templates : tuple of pathlib.Path
        Files with layouts of the site; in the environment separated by colons.
    users : bool
        Whether masters show NXuser groups of the metadata, which are personal data.
    slow_s : float
        Duration above which a step on the disk is logged as slow.
    metrics_port : int or None
        TCP port for Prometheus metrics; None disables them.
    interrupted_close_s : float
        Time without its publisher after which an interrupted scan is closed; a
        publisher that returns later publishes what only it has as a new scan.
    spooled_close_s : float
        The same for a scan whose publisher has a spool, from which it is resumed.
    stop_s : float
        Deadline for stopping after SIGTERM.
    workers : int
        Number of worker processes, which share the scans.
    worker_silence_s : float
        A worker process without a sign of life for so long is killed and replaced.
    """

    model_config = SettingsConfigDict(
        env_prefix="SCANBUS_",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    redis: Annotated[str, AfterValidator(ServerAddress)] = DEFAULT_URL
    root: Annotated[Path, BeforeValidator(_path_given)]
    allowed_roots: Annotated[
        tuple[Path, ...], NoDecode, BeforeValidator(_split_paths)
    ] = ()
    external_roots: Annotated[
        tuple[Path, ...], NoDecode, BeforeValidator(_split_paths)
    ] = ()
    reference_wait_s: float = Field(default=30.0, ge=0)
    memory_bytes: ByteSize = Field(default=ByteSize(DEFAULT_MEMORY_BYTES), gt=0)
    watermark: Annotated[float, AfterValidator(_leaves_the_budget)] = Field(
        default=MOST_WATERMARK, gt=0
    )
    lease_s: float = Field(default=LEASE_S, gt=0)
    heartbeat_s: float = Field(default=HEARTBEAT_S, gt=0, le=20.0)
    flush_s: float = Field(default=1.0, gt=0)
    poll_s: float = Field(default=0.2, gt=0)
    retry_s: float = Field(default=2.0, gt=0)
    master_s: float = Field(default=10.0, gt=0)
    read_bytes: ByteSize = Field(default=ByteSize(16 * 2**20), gt=0)
    copied_bytes: ByteSize = Field(default=ByteSize(64 * 2**20), ge=0)
    least_free_bytes: ByteSize = Field(default=ByteSize(200 * 10**6), ge=0)
    low_water_bytes: ByteSize = Field(default=ByteSize(10**9), ge=0)
    grace_s: float = Field(default=300.0, ge=0)
    wanted_sources: int = Field(default=128, ge=2, le=500)
    manifest: bool = True
    layouts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)] = ()
    templates: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_paths)] = ()
    users: bool = False
    slow_s: float = Field(default=5.0, gt=0)
    metrics_port: int | None = Field(default=None, ge=0, lt=65536)
    interrupted_close_s: float = Field(default=3600.0, gt=0)
    spooled_close_s: float = Field(default=86400.0, gt=0)
    stop_s: float = Field(default=10.0, gt=0)
    workers: int = Field(default=1, ge=1, le=64)
    worker_silence_s: float = Field(default=60.0, gt=0)

    # Not read from the environment: made of the files in `templates`.
    _template_texts: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @property
    def template_texts(self) -> Mapping[str, str]:
        """Text of each template as JSON, by the name of its layout, once read."""
        return self._template_texts

    def with_template_texts(self, texts: Mapping[str, str]) -> Self:
        """Return these settings with the texts of their templates."""
        found = self.model_copy()
        found._template_texts = dict(texts)  # noqa: SLF001 - its own class
        return found

    def to_message(self) -> str:
        """Return all settings as JSON for a worker process, with the password.

        With the texts of templates: a worker that starts later has the same.
        """
        found = self.model_dump(mode="json")
        secret = {"redis": ServerAddress(self.redis).secret}
        if self._template_texts:
            found[_TEXTS] = dict(self._template_texts)
        return json.dumps(found | secret)

    @classmethod
    def from_message(cls, message: str) -> Self:
        """Return the settings that a message has."""
        found: dict[str, Any] = json.loads(message)
        texts = found.pop(_TEXTS, {})
        settings = cls.model_validate_json(json.dumps(found))
        return settings.with_template_texts(texts)

    @classmethod
    def load(cls, config: Path | None = None, **flags: Any) -> Self:
        """Return the settings of this process.

        Parameters
        ----------
        config : pathlib.Path or None
            TOML file.
        flags : dict
            Values that override all others; None means "not given".

        Raises
        ------
        ConfigurationError
            If a value is invalid, a key is unknown or the file is unreadable.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        _refuse_unknown_environment(cls)
        try:
            settings: Self = _with_file(cls, config)(**given)
        except ValidationError as error:
            # Not from that error: it keeps the values that were given.
            raise _configuration_error(error, cls.model_fields) from None
        except (OSError, ValueError) as error:
            raise ConfigurationError(str(config), str(error)) from error
        return settings


# A key with a slip may be why another one is missing, so it is named first.
_FIRST = ("extra_forbidden",)
_LAST = ("missing",)
_NEEDED = {
    "int_parsing": "a whole number",
    "float_parsing": "a number",
    "byte_size": "a number of bytes, such as 4000000000, 4GB or 4GiB,",
    "byte_size_unit": "a number of bytes, such as 4000000000, 4GB or 4GiB,",
}


def _configuration_error(
    error: ValidationError, names: Iterable[str]
) -> ConfigurationError:
    problems = error.errors(include_url=False)
    problem = min(problems, key=lambda each: _urgency(each["type"]))
    where = ".".join(str(part) for part in problem["loc"])
    return ConfigurationError(where, _reason(where, problem, names))


def _urgency(kind: str) -> int:
    return 0 if kind in _FIRST else 2 if kind in _LAST else 1


def _reason(where: str, problem: Mapping[str, Any], names: Iterable[str]) -> str:
    kind = problem["type"]
    if kind == "extra_forbidden":
        return _no_such(where, names)
    if kind == "missing":
        return (
            f"missing; give --{where.replace('_', '-')}, "
            f"SCANBUS_{where.upper()}, or {where} in the configuration file"
        )
    if kind in _NEEDED:  # None of these settings is secret.
        return f"{_NEEDED[kind]} is needed, not {problem['input']!r}"
    return problem_text(problem)


def _no_such(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"no such setting; did you mean {near[0]}?" if near else "no such setting"


def _with_file(kind: type[WriterSettings], config: Path | None) -> Any:
    if config is None:
        return kind
    if not config.is_file():
        raise ConfigurationError(str(config), "there is no such file")

    class FromFile(kind):  # type: ignore[valid-type, misc]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = TomlConfigSettingsSource(settings_cls, config)
            return init_settings, env_settings, file

    return FromFile


# Variables of the command line and of the tests; they are not settings of the writer.
_OTHER_VARIABLES = {
    "SCANBUS_REDIS_SERVER",
    FAILPOINTS_VARIABLE,
    FAILPOINT_LOG_VARIABLE,
}


def _refuse_unknown_environment(kind: type[WriterSettings]) -> None:
    known = {f"SCANBUS_{name.upper()}" for name in kind.model_fields}
    for name in os.environ:
        if name.startswith("SCANBUS_") and name not in known | _OTHER_VARIABLES:
            raise ConfigurationError(name, _no_such(name, sorted(known)))
