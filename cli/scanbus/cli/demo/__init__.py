"""The demo: three processes publish a simulated scan, read it live, and write it.

The processes communicate with each other only through Redis; they report their progress
to their parent process as lines of JSON on stdout.
"""

from scanbus.cli.demo.runner import DemoError, run_demo

__all__ = ["DemoError", "run_demo"]
