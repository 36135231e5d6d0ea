"""Recovery of partial scans from files that killed writers left on the disk.

May import masters, check, storage and their imports; does not access Redis.
"""
