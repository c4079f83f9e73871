"""A module that exits the process that imports it."""

import sys

sys.exit("leaving at once")
