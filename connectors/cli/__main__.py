"""``python -m connectors.cli``."""

from connectors.cli.main import main

main()
