"""The bus: Redis streams, entries, codecs, quotas, cursors, leases.

Three layers: :mod:`~scanbus.bus.codecs` compress arrays, :mod:`~scanbus.bus.protocol`
implements ``docs/protocol.md`` as pure code, and only :mod:`~scanbus.bus.store` sends
commands to Redis. Beside them, :mod:`~scanbus.bus.external` opens files of detectors to
which frames by reference refer. Other components import these four and nothing below.
"""
