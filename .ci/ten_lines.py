"""Runs the examples of the README as they stand there, with what is installed: no extras."""

import doctest
import sys

failed, tried = doctest.testfile(sys.argv[1], module_relative=False)
print(f"{tried} lines of the README, {failed} failed")
sys.exit(bool(failed) or not tried)
