"""Scans whose publisher died: resumed, closed in its place, published anew.

May import `queue` and what lies below it.
"""
