"""`python -m sftsolve` is the `sftsolve` command."""

from sftsolve.cli import main

main()
