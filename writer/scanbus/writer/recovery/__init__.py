"""Partial scans from what killed writers left on the disk.

May import masters, check, storage and what those may; asks no Redis.
"""
