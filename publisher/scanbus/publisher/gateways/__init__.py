"""Gateways: publish data from other sources as scans, such as image files.

Each gateway needs its own libraries, so none is imported with this package.
May import what `scanbus.publisher` offers, and what lies below it.
"""
