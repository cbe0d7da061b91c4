"""Whether programs were followed: what tests of structured evaluation watch."""

import importlib
import sys

import jaxfd._places  # noqa: F401 - loads who calls it, before a test puts another in its place

# The face of the folder has a function of this name.
room = importlib.import_module("jaxfd._jaxpr.follow")


def outcomes_of(monkeypatch):
    """A list that grows with every program: whether it was followed."""
    seen, original = [], room.follow

    def spy(*args):
        result = original(*args)
        seen.append(result is not None)
        return result

    for module in list(sys.modules.values()):
        if getattr(module, "follow", None) is original:
            monkeypatch.setattr(module, "follow", spy)
    return seen
