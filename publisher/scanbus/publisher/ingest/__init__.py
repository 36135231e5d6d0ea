"""The way in: what a program sends, until it is in the scan's queue.

May import `queue`, `buffers`, `declare` and `spool`; talks to Redis nowhere.
"""
