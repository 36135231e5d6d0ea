"""Errors keep their values, say one sentence, and survive being copied."""

import copy
import pickle
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.cli.demo.runner import DemoError
from scanbus.cli.private_redis import NoRedisServerError, PrivateRedisError
from scanbus.schemas import errors
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.exit_codes import ExitCode

ELSEWHERE = (DemoError, NoRedisServerError, PrivateRedisError)
BASES = (ScanbusError, errors.BusError, errors.PointError, errors.StorageError)
"""Caught, never raised: they have no sentence."""


def tree(root: type[ScanbusError] = ScanbusError) -> Iterator[type[ScanbusError]]:
    yield root
    for kind in root.__subclasses__():
        yield from tree(kind)


KINDS = list(tree())
RAISED = [kind for kind in KINDS if kind not in BASES]
every_error = pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)


def arguments(kind: type[ScanbusError]) -> dict[str, Any]:
    """Return the types of what an error is made from, in their order."""
    hints = get_type_hints(kind.__init__)
    del hints["return"]
    return hints


def values_of(kind: type[ScanbusError]) -> st.SearchStrategy[dict[str, Any]]:
    """Return what the arguments of an error may be."""
    special = {
        str: st.text(min_size=1),
        float: st.floats(allow_nan=False),  # Equal to itself, to be compared below.
        object: st.none() | st.integers() | st.text(),
    }
    hints = arguments(kind)
    drawn = [special[t] if t in special else st.from_type(t) for t in hints.values()]
    return st.tuples(*drawn).map(lambda values: dict(zip(hints, values, strict=True)))


def same(one: ScanbusError, other: ScanbusError) -> bool:
    """Whether two errors have the same class, values, arguments and sentence."""
    return (
        type(one) is type(other)
        and vars(one) == vars(other)
        and one.args == other.args
        and str(one) == str(other)
    )


@every_error
@given(data=st.data())
def test_an_error_is_the_same_after_every_kind_of_copy(
    kind: type[ScanbusError], data: st.DataObject
) -> None:
    values = data.draw(values_of(kind))

    error = kind(*values.values())

    assert str(error)
    assert {name: getattr(error, name) for name in values} == values
    assert error.args == tuple(values.values())
    error.add_note("seen before")
    assert same(pickle.loads(pickle.dumps(error)), error)
    assert same(copy.copy(error), error)
    assert same(copy.deepcopy(error), error)


@every_error
@given(data=st.data())
def test_arguments_by_name_make_the_same_error(
    kind: type[ScanbusError], data: st.DataObject
) -> None:
    values = data.draw(values_of(kind))

    assert same(kind(**values), kind(*values.values()))


def test_an_argument_that_was_left_out_survives_pickling() -> None:
    error = errors.BadEntryError("th", "5-1", "no CBOR")

    copied = pickle.loads(pickle.dumps(error))

    assert not copied.is_damaged
    assert same(copied, error)


@every_error
def test_errors_are_compared_and_hashed_by_identity(kind: type[ScanbusError]) -> None:
    values: dict[str, Any] = dict.fromkeys(arguments(kind), "3")
    one, other = kind(**values), kind(**values)

    assert one != other
    assert len({one, other}) == 2


def test_an_error_keeps_its_cause_and_its_traceback() -> None:
    cause = OSError(28, "No space left on device")

    with pytest.raises(errors.SpoolError, match="full") as caught:
        raise errors.SpoolError("/spool", "full") from cause

    assert caught.value.__cause__ is cause
    assert caught.value.__traceback__ is not None


def test_a_wrong_number_of_arguments_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="reason"):
        errors.SpoolError("/spool")  # type: ignore[call-arg]


def test_a_value_with_braces_is_no_template() -> None:
    error = errors.DocumentError("scan", "{kind} {0} {")

    assert str(error) == "scan: {kind} {0} {"


def test_the_tree_that_is_drawn_is_the_one_that_is_there() -> None:
    drawn = {}
    above = [ScanbusError.__name__]
    lines = re.compile(r"^    (\W*)── (\w+)", re.MULTILINE)
    for indent, name in lines.findall(errors.__doc__ or ""):
        depth = len(indent) // 4 + 1
        above[depth:] = [name]
        drawn[name] = above[depth - 1]

    assert drawn == {
        kind.__name__: kind.__bases__[0].__name__
        for kind in KINDS
        if kind is not ScanbusError and kind not in ELSEWHERE
    }
    assert sorted([*drawn, "ScanbusError"]) == sorted(errors.__all__)


EXIT_CODES = {
    errors.ScanInterruptedError: ExitCode.PARTIAL,
    errors.StorageError: ExitCode.FAILED,
    errors.LayoutError: ExitCode.USAGE,
    errors.RootUnusableError: ExitCode.USAGE,
    errors.SourceFailedError: ExitCode.FAILED,
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_exit_codes_are_those_of_the_nearest_base(kind: type[ScanbusError]) -> None:
    codes = (EXIT_CODES[base] for base in kind.__mro__ if base in EXIT_CODES)

    assert kind.exit_code is next(codes, ExitCode.USAGE)


SENTENCES = [
    (
        errors.UnknownCodecError("blosc2", ("none", "gzip")),
        (
            "codec 'blosc2' is not available here; known codecs: none, gzip. blosc2 "
            "needs: pip install scanbus[blosc2]"
        ),
    ),
    (
        errors.PayloadError("7 bytes, not 8"),
        "7 bytes, not 8",
    ),
    (
        errors.DocumentError("scan", "no JSON"),
        "scan: no JSON",
    ),
    (
        errors.UnknownProtocolError("scan", "2", 1),
        (
            "scan: is in protocol version '2', this scanbus supports 1. Update the "
            "older of the two sides."
        ),
    ),
    (
        errors.BadEntryError("th", "5-1", "no payload", True),
        "lane th, entry 5-1: no payload",
    ),
    (
        errors.BusUnavailableError("redis://bus", "refused."),
        (
            "Redis at redis://bus does not answer: refused. Is it running, and is "
            "--redis (or SCANBUS_REDIS) right?"
        ),
    ),
    (
        errors.BusRefusedError("redis://bus", "UNBLOCKED client unblocked"),
        "Redis at redis://bus refuses a command: UNBLOCKED client unblocked",
    ),
    (
        errors.BusUnsuitableError("redis://bus", "version 5.0, at least 6.2 is needed"),
        (
            "Redis at redis://bus cannot be used for the bus: version 5.0, at least 6.2"
            " is needed"
        ),
    ),
    (
        errors.DeadlineError("sending", 59.7, "no room"),
        "sending: gave up after 60 s (no room)",
    ),
    (
        errors.LaneConflictError("th", "5-1"),
        (
            "lane th: entry 5-1 was refused, because the lane holds entries of another "
            "publisher. Do two processes publish the same scan?"
        ),
    ),
    (
        errors.ScanClosedError("u1", "it crashed", "/spool/u1"),
        (
            "scan u1 was closed without its publisher (it crashed): nothing is added to"
            " it. It has all points that were sent here; the spool /spool/u1 can be "
            "removed."
        ),
    ),
    (
        errors.ScanClosedError("u1", "", ""),
        (
            "scan u1 was closed without its publisher: nothing is added to it. It has "
            "all points that were sent here."
        ),
    ),
    (
        errors.QuotaRefusedError("u1", 3 << 19, "1 MiB is left"),
        "scan u1: a quota of 1.5 MiB is refused: 1 MiB is left",
    ),
    (
        errors.UnknownScanError("u1"),
        (
            "scan 'u1' is not on this bus; `scanbus ls` lists its scans. Finished scans"
            " are removed from the bus when memory is needed; their files stay"
        ),
    ),
    (
        errors.AmbiguousScanError("5", ("a", "b", "c", "d", "e", "f")),
        (
            "scan '5' matches 6 scans: choose one by its uid (b, c, d, e, f); `scanbus "
            "ls` lists them"
        ),
    ),
    (
        errors.UnknownChannelError("th", ("tth", "diode")),
        "no channel 'th' in this scan; it has tth, diode",
    ),
    (
        errors.UnknownChannelError("th", ()),
        "no channel 'th' in this scan; it has none",
    ),
    (
        errors.ScanNumberTakenError(7, "p/b/s/RAW_DATA/c/c_d", "scan u2"),
        (
            "scan number 7 of p/b/s/RAW_DATA/c/c_d is taken by scan u2; nothing was "
            "published. Choose another, or none: then the next free one is used"
        ),
    ),
    (
        errors.NoNumberLeftError("p/b/s/RAW_DATA/c/c_d", 89_999_999),
        (
            "the scan numbers of p/b/s/RAW_DATA/c/c_d are used up: they are counted up "
            "to 89999999, which is taken. Use another dataset, or give the scan a "
            "number yourself"
        ),
    ),
    (
        errors.NoWriterError(),
        (
            "no writer is alive on this bus and require_writer is set; start one with "
            "`scanbus writer --root DIR`"
        ),
    ),
    (
        errors.NotYetError("th", 3),
        "th: point 3 is not there yet",
    ),
    (
        errors.NeverError("th", 3, 2),
        "th: point 3 will never come, the channel ended with 2 points",
    ),
    (
        errors.NoLongerError("th", 3, "scan0001.h5"),
        "th: point 3 is no longer on the bus; read it from scan0001.h5",
    ),
    (
        errors.NoLongerError("th", 3, ""),
        "th: point 3 is no longer on the bus; read it from its file",
    ),
    (
        errors.DeclarationError("channel th", "no shape"),
        "channel th: no shape",
    ),
    (
        errors.DeclarationError("", "no shape"),
        "no shape",
    ),
    (
        errors.PublisherAliveError("scan u: its publisher is alive"),
        "scan u: its publisher is alive",
    ),
    (
        errors.ScanStateError("the publisher is closed"),
        "the publisher is closed",
    ),
    (
        errors.ScanInterruptedError("u1", {"th": 3, "diode": 4}),
        (
            "scan u1: interrupted, its publisher is silent (points so far: th 3, diode "
            "4). It continues if the publisher comes back"
        ),
    ),
    (
        errors.ScanInterruptedError("u1", {}),
        (
            "scan u1: interrupted, its publisher is silent (points so far: none). It "
            "continues if the publisher comes back"
        ),
    ),
    (
        errors.LayoutError("nxmxx", "there is no such layout; did you mean nxmx?"),
        "layout nxmxx: there is no such layout; did you mean nxmx?",
    ),
    (
        errors.NameTakenError("scan0001.h5", "scan u2"),
        (
            "name taken: scan0001.h5 exists and holds scan u2; nothing was overwritten."
            " Move it away, or choose another root or scan number."
        ),
    ),
    (
        errors.RootUnusableError("/data", "Permission denied"),
        "cannot write below /data: Permission denied",
    ),
    (
        errors.NoRootError("/data", "it has no folder .scanbus"),
        (
            "/data is no root of scanbus: it has no folder .scanbus. Mount its file "
            "system if that is missing; a new root is made with `scanbus root init "
            "/data`"
        ),
    ),
    (
        errors.RootConflictError("/data", "another bus writes id00 there"),
        "cannot write below /data: another bus writes id00 there",
    ),
    (
        errors.ExternalFileError("/fast/a.h5", "is not there", is_absent=True),
        "/fast/a.h5 is not there",
    ),
    (
        errors.FilesMissingError("abcd1234", "/data/x", {"cam": "0 to 31"}),
        (
            "files of scan abcd1234 that were written are gone from /data/x (points: "
            "cam 0 to 31), and Redis has their data no longer. Put them back, and the "
            "scan goes on; if they are lost for good: `scanbus root accept-loss "
            "abcd1234`"
        ),
    ),
    (
        errors.StorageFullError("/data", 12_345_678_901, 1_000_000),
        "no space on /data, need 12.3 GB, 0.001 GB free",
    ),
    (
        errors.SpoolError("/spool/u1", "damaged"),
        "the spool /spool/u1: damaged",
    ),
    (
        errors.LeaseLostError("u1", 7),
        "scan u1: the lease with fence 7 is lost",
    ),
    (
        errors.VerificationError("scan0001.h5", "3 chunks instead of 4"),
        "scan0001.h5: 3 chunks instead of 4",
    ),
    (
        errors.WorkerFailedError("exit code 1"),
        (
            "the writer's worker processes cannot work: exit code 1. What they said "
            "themselves stands above this line"
        ),
    ),
    (
        errors.DatasetOpenError("lyso_0001", "1 scan being written"),
        (
            "lyso_0001 is not closed: 1 scan being written. Wait for its writer, or "
            "see `scanbus salvage`"
        ),
    ),
    (
        errors.IcatMessageError("lyso_0001", "it has no finished scan"),
        "no message for ICAT about lyso_0001: it has no finished scan",
    ),
    (
        errors.BrokerError("mq:61613", "no answer within 10 s"),
        "the message broker at mq:61613 took no message: no answer within 10 s",
    ),
    (
        errors.SourceError("a.cbf", "the file is empty"),
        "a.cbf: the file is empty",
    ),
    (
        errors.SourceFailedError("watch /data", "the folder is gone"),
        "watch /data has failed: the folder is gone; nothing more is received",
    ),
    (
        errors.MessageError("DECTRIS stream V1, frame 7", "encoding 'x' is unknown"),
        "DECTRIS stream V1, frame 7: encoding 'x' is unknown",
    ),
    (
        errors.ServerAddressError(),
        (
            "this is not an address of a Redis server (--redis, SCANBUS_REDIS); "
            "expected redis://host:port/db, rediss://host:port/db (TLS) or "
            "unix:///path. In a password, write # ? / @ % and spaces as %23 %3F %2F "
            "%40 %25 and %20"
        ),
    ),
    (
        errors.ConfigurationError("root", "missing"),
        "setting root: missing",
    ),
]


@pytest.mark.parametrize(
    ("error", "sentence"), SENTENCES, ids=lambda each: type(each).__name__
)
def test_an_error_says_its_sentence(error: ScanbusError, sentence: str) -> None:
    assert str(error) == sentence


def test_every_error_of_the_tree_has_a_sentence_here() -> None:
    said = {type(error) for error, _ in SENTENCES}

    assert said == set(RAISED) - set(ELSEWHERE)
