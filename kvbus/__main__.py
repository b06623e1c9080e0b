"""``python -m kvbus`` is the ``kvbus`` command."""

from kvbus.cli.main import main

main()
