"""How files look, as data: pure functions that turn scan contents into trees.

May import :mod:`scanbus.writer.model`, the bus' protocol and codecs, and the schemas.
"""
