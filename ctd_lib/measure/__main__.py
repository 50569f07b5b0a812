"""The command `python -m ctd_lib.measure`."""

import sys

from ctd_lib import cli

sys.exit(cli.run("measure"))
