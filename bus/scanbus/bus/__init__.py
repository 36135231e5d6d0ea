"""How it travels: Redis streams, entries, codecs, back-pressure, cursors, leases.

The only component that knows Redis. Publishers append through :mod:`lanes` and
:mod:`retransmit`, readers read through :mod:`reader`; the protocol is specified in
``docs/protocol.md``.
"""
