"""The writer service: concurrent scans, scan numbers, metrics, systemd.

May import all of the writer.
"""
