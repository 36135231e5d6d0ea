"""Points on their way to an entry: chunks, groups, points out of order.

Pure. May import `scanbus.bus.protocol`, `scanbus.bus.codecs` and `scanbus.schemas`; not
Redis, no thread, no clock.
"""
