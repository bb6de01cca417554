"""`python -m orchestration`: the command line, where no script is installed."""

from orchestration.cli.app import main

main()
