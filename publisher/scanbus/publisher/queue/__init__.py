"""The queue of one scan between the program and the bus, under one lock.

May import `buffers`, `declare` and `spool`; makes no calls to Redis.
"""
