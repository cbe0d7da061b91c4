"""What several tests of kept functions say: a change is noticed, and nothing else is."""

from jaxfd._functions import state_of


def check_noticed(fun, change):
    """A function's state holds until the change, and no longer."""
    state = state_of(fun)
    assert state is not None
    assert state.holds(fun)
    change()
    assert not state.holds(fun)
