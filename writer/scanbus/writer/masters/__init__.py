"""Masters written and made again.

May import storage and what that may.
"""
