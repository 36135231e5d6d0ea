"""Writing one scan from the bus into files: lanes, commits, authority, replay.

May import masters, check, storage and their imports, and :mod:`scanbus.bus.store`.
"""
