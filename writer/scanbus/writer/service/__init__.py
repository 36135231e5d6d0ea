"""The writer as a service: many scans at once, numbering, metrics, systemd.

May import all of the writer.
"""
