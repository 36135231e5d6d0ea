"""Buffers of points that are in no entry yet: chunks, groups, points out of order.

Pure: no Redis, no thread, no clock. May import `scanbus.bus.protocol`,
`scanbus.bus.codecs` and `scanbus.schemas`.
"""
