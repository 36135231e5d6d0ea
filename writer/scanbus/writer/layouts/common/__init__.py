"""What layouts share: channels, plots, metadata, ledger notes, root attributes.

May import what :mod:`scanbus.writer.layouts` may, but no single layout.
"""
