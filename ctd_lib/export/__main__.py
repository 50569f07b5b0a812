"""The command `python -m ctd_lib.export`."""

import sys

from ctd_lib import cli

sys.exit(cli.run("export"))
