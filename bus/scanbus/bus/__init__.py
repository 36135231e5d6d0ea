"""The bus: Redis streams, entries, codecs, quotas, cursors, leases.

Three layers: :mod:`~scanbus.bus.codecs` compress arrays, :mod:`~scanbus.bus.protocol`
implements ``docs/protocol.md`` as pure code, and only :mod:`~scanbus.bus.store` sends
commands to Redis. Other components import these three and nothing below them.
"""
