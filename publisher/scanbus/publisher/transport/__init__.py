"""The threads between a scan's queue and Redis, and the opening of scans.

May import `ingest`, `recovery`, `queue` and the packages below them.
"""
