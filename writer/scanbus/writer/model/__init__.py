"""Pure data of the writer: ledgers, scan contents, NeXus trees, file stamps.

May import schemas and the bus's protocol, and nothing else of the writer.
"""
