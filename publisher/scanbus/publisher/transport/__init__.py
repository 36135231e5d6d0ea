"""The threads between a scan's queue and Redis, and how scans are opened.

May import `ingest`, `recovery`, `queue` and what lies below them.
"""
