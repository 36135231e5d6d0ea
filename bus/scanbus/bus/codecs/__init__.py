"""Codecs: encode arrays as the bytes that HDF5 stores for a chunk, and decode them.

=============== ==================== ==========================================
name            HDF5 filters         for
=============== ==================== ==========================================
none            none                 small or incompressible values
gzip-shuffle    shuffle 2, deflate 1 readers without plug-ins
bitshuffle-lz4  bitshuffle 32008     frames: the default
bitshuffle-zstd bitshuffle 32008     frames: smaller, slower
lz4             lz4 32004            bytes that shuffling does not make smaller
zstd            zstd 32015           the same, smaller
blosc2          blosc2 32026         smallest; needs ``scanbus[blosc2]``
=============== ==================== ==========================================

Nothing here imports h5py or hdf5plugin. The libraries of bitshuffle and Blosc2 are
loaded when the first array needs them. May import :mod:`scanbus.schemas` only.
"""

from __future__ import annotations

from scanbus.bus.codecs.bitshuffle import BitshuffleScheme
from scanbus.bus.codecs.blosc2 import Blosc2Scheme
from scanbus.bus.codecs.codec import CODEC_NAMES, Codec, Filter
from scanbus.bus.codecs.gzip import GzipShuffleScheme
from scanbus.bus.codecs.lz4 import Lz4Scheme
from scanbus.bus.codecs.raw import RawScheme
from scanbus.bus.codecs.thread_pool import ThreadPool
from scanbus.bus.codecs.zstd import ZstdScheme
from scanbus.schemas.errors import UnknownCodecError

__all__ = [
    "CODEC_NAMES",
    "DEFAULT_CODEC",
    "Codec",
    "Filter",
    "ThreadPool",
    "find_codec",
]

DEFAULT_CODEC = "bitshuffle-lz4"

_LZ4, _ZSTD = BitshuffleScheme("lz4"), BitshuffleScheme("zstd")
_CODECS = {
    each.name: each
    for each in (
        Codec("none", releases_gil=True, scheme=RawScheme()),
        Codec("gzip-shuffle", releases_gil=True, scheme=GzipShuffleScheme()),
        Codec(
            "bitshuffle-lz4", releases_gil=True, scheme=_LZ4, share=_LZ4.with_threads
        ),
        Codec(
            "bitshuffle-zstd", releases_gil=True, scheme=_ZSTD, share=_ZSTD.with_threads
        ),
        Codec("lz4", releases_gil=True, scheme=Lz4Scheme()),
        Codec("zstd", releases_gil=True, scheme=ZstdScheme()),
        Codec("blosc2", releases_gil=False, scheme=Blosc2Scheme()),
    )
}


def find_codec(name: str) -> Codec:
    """Return the codec with this name.

    Parameters
    ----------
    name : str
        One of `CODEC_NAMES`.

    Raises
    ------
    UnknownCodecError
        If the name is not in `CODEC_NAMES`. A codec whose library is missing is
        returned; it raises this error when it is used.

    Examples
    --------
    >>> find_codec("bitshuffle-lz4").releases_gil
    True
    """
    try:
        return _CODECS[name]
    except KeyError:
        raise UnknownCodecError(name, CODEC_NAMES) from None
