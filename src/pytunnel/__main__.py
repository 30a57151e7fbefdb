"""`python -m pytunnel`."""

from pytunnel.cli import main

main()
