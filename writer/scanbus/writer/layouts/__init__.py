"""Layouts of files: pure functions that turn scan contents into NeXus trees.

May import :mod:`scanbus.writer.model`, the bus's protocol and codecs, and the schemas.
"""
