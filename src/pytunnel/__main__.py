"""`python -m pytunnel`."""

from pytunnel.cli.main import main

main()
