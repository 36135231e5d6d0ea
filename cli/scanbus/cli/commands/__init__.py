"""One module for each command, of the command's name.

Each has the function `run`, whose arguments and docstring are the command's, and an
`EXAMPLE` of a command line. :mod:`scanbus.cli.app` lists them.
"""
