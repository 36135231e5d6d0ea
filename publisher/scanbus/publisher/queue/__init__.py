"""What one scan still has to bring to the bus, under one lock.

May import `buffers`, `declare` and `spool`; talks to Redis nowhere.
"""
