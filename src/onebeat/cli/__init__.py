"""The command line: words typed by people. Its neighbours are loaded when a command needs them."""

from onebeat.cli.main import main

__all__ = ["main"]
