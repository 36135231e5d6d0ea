"""Check the declarations of a scan, and plan its lanes from them.

Pure. May import `scanbus.bus.codecs`, `scanbus.bus.protocol` and `scanbus.schemas`.
"""
