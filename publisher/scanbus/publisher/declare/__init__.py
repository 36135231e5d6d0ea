"""What a program declares of a scan, checked, and the lanes planned from it.

Pure. May import `scanbus.bus.protocol` and `scanbus.schemas`.
"""
