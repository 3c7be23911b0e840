"""Run the command line with `python -m interlock.cli`."""

from interlock.cli import main

main()
