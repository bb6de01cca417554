"""`python -m orchestration`: the command line, where no script is installed."""

from orchestration.cli import main

main()
