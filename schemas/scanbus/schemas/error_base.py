"""The base of the error tree: how errors keep their values and make their sentence.

The tree itself, and what is imported from outside, is :mod:`scanbus.schemas.errors`.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, dataclass_transform

from scanbus.schemas.exit_codes import ExitCode

__all__ = ["ScanbusError"]


@dataclass_transform(eq_default=False, field_specifiers=(field,))
class ScanbusError(Exception):
    """Base class of all scanbus errors; each subclass becomes a dataclass.

    A subclass declares its values as fields and its sentence as `template`; where a
    sentence needs logic, it defines ``__str__`` instead.

    Attributes
    ----------
    exit_code : ExitCode
        How a command ends that fails with this error.
    template : str
        The sentence, a format string of the fields.

    Examples
    --------
    >>> class ShutterClosedError(ScanbusError):
    ...     shutter: str
    ...     template = "shutter {shutter} is closed"
    >>> print(ShutterClosedError("fast"))
    shutter fast is closed
    """

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE
    template: ClassVar[str] = ""
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init_subclass__(cls) -> None:
        """Make the subclass a dataclass."""
        super().__init_subclass__()
        # Without eq, errors are hashed by identity: a traceback is of one occurrence.
        # Without repr, it is that of Exception.
        dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        # Errors are copied and unpickled as `cls(*args)`; Exception itself would keep
        # positional arguments only, without keywords and defaults.
        self.args = tuple(getattr(self, f.name) for f in fields(self) if f.init)

    def __str__(self) -> str:
        return self.template.format_map(vars(self)) or super().__str__()
