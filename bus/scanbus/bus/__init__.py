"""How data travel: Redis streams, entries, codecs, quotas, cursors, leases.

Three layers: :mod:`~scanbus.bus.codecs` pack arrays, :mod:`~scanbus.bus.protocol` is
the protocol of ``docs/protocol.md`` as pure code, :mod:`~scanbus.bus.store` is the only
place that knows Redis. Other components import these three and nothing below them.
"""
