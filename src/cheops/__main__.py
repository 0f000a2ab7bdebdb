"""`python -m cheops`: the commands, for who has a Python and not its scripts on the PATH."""

from cheops.cli import main

main()
