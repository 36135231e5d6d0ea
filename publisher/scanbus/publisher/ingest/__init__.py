"""Ingest: take what a program sends into the scan's queue.

May import `queue`, `buffers`, `declare` and `spool`; makes no calls to Redis.
"""
