"""Parts shared by layouts: channels, plots, metadata, ledger notes, root attributes.

May import what :mod:`scanbus.writer.layouts` may, but no particular layout.
"""
