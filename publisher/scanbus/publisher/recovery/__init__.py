"""Scans whose publisher died: resume them, close them, or publish them as new scans.

May import `queue` and the packages below it.
"""
