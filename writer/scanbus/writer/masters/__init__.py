"""Writing and rebuilding of master files.

May import storage and what storage may import.
"""
