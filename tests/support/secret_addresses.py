"""Addresses of Redis servers, well formed and malformed, that hold a secret."""

from typing import Final

from hypothesis import strategies as st

__all__ = ["ADDRESSES", "MALFORMED", "SECRET"]

SECRET: Final = "s3cr3t"
_odd = st.text(st.sampled_from("#?@/%:[]&= \\ü\"'"), max_size=3)
_passwords = st.builds("{}{}{}".format, _odd, st.just(SECRET), _odd)
_schemes = st.sampled_from(["redis", "rediss", "unix", "http", "redsi", ""])
_hosts = st.sampled_from(["host", "127.0.0.1:6379", "[::1]:7", "[::1", "host:x", ""])
_rests = st.sampled_from(["", "/0", "/x", "?db=1", "?x", "/run/redis.sock", "#f"])
ADDRESSES = st.one_of(
    st.builds("{}://:{}@{}{}".format, _schemes, _passwords, _hosts, _rests),
    st.builds("{}://user:{}@{}{}".format, _schemes, _passwords, _hosts, _rests),
    st.builds("{}://{}@{}{}".format, _schemes, _passwords, _hosts, _rests),
    st.builds("{}://{}?password={}".format, _schemes, _hosts, _passwords),
    st.builds("{}:{}@{}".format, _schemes, _passwords, _hosts),
    _passwords,
)
MALFORMED: Final = (
    f"redis://:{SECRET}#x@host",
    f"redis://:{SECRET}/x@host",
    f"redis://:{SECRET}?x@host",
    f"redis://:x y{SECRET}@host",
    f"redis://u:{SECRET}@[::1",
    f"rediss://:[{SECRET}]@host:x",
    f"http://:{SECRET}@host",
    f"unix://:{SECRET}/run@/x",
    f"redis://host:{SECRET}",
    f"redis://host?db={SECRET}",
    SECRET,
)
