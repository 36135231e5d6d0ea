"""Files and folders: HDF5 files of all kinds, work folders, paths below the root.

May import layouts, model, settings and steps of the writer; does not access Redis.
"""
