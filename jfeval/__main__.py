"""``python -m jfeval``."""

from jfeval.cli import main

main(prog_name="jfeval")
