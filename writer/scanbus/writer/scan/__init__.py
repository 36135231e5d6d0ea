"""One scan from the bus into files: lanes, commits, authority, replay.

May import masters, check, storage and what those may, and :mod:`scanbus.bus.store`.
"""
