"""The commands, one module each, with the command's name.

Each module has a function `run`, whose arguments and docstring are those of the
command, and `EXAMPLE`, a command line. :mod:`scanbus.cli.app` lists the commands.
"""
