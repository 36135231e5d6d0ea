"""A scan to watch: simulated and published, seen live, written, by three processes.

The processes speak to each other through Redis only; to the one that started them they
report how far they are, as lines of JSON on stdout.
"""

from scanbus.cli.demo.runner import DemoError, run_demo

__all__ = ["DemoError", "run_demo"]
