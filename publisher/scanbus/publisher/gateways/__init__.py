"""Streams that others make, taken over as scans: files, and detectors' own protocols.

Each gateway needs libraries of its own, so none is imported with this package.
"""
