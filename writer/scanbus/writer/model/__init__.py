"""Pure data of the writer: ledgers, scan contents, trees, names, file stamps.

May import schemas and the bus' protocol, and nothing else of the writer.
"""
