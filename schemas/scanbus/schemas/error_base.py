"""Base class of the error tree: stores the values and formats the message.

The tree itself is in :mod:`scanbus.schemas.errors`; import errors from there.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, dataclass_transform

from scanbus.schemas.exit_codes import ExitCode

__all__ = ["ScanbusError"]


@dataclass_transform(eq_default=False, field_specifiers=(field,))
class ScanbusError(Exception):
    """Base class of all scanbus errors; each subclass becomes a dataclass.

    A subclass declares its values as fields and its message as `template`; where the
    message needs logic, it defines ``__str__`` instead.

    Attributes
    ----------
    exit_code : ExitCode
        Exit code of a command that fails with this error.
    template : str
        The message, a format string of the fields.

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
        # eq=False: errors compare and hash by identity, as each has its own traceback.
        # repr=False: keeps the repr of Exception.
        dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        # copy and pickle call `cls(*args)`; Exception itself stores only the positional
        # arguments, without keywords and defaults.
        self.args = tuple(getattr(self, f.name) for f in fields(self) if f.init)

    def __str__(self) -> str:
        return self.template.format_map(vars(self)) or super().__str__()
