"""What is said where a search runs out of a model's domain."""

import jax
import numpy as np
import pytest

import jaxfd

OUT = jax.ShapeDtypeStruct((), np.float64)
ADAPTIVE = jaxfd.Adaptive()


def model(x):
    if x < 0.9:
        raise ArithmeticError("no such flow")
    return np.sqrt(x - 0.9)


CALLS = {
    "sensitivity": lambda box, **k: jaxfd.sensitivity(box, 1.0, **k),
    "grad": lambda box, **k: jaxfd.grad(box, method=ADAPTIVE, **k)(1.0),
}


@pytest.mark.parametrize("call", CALLS)
def test_names_both_ways(call):
    box = jaxfd.blackbox(model, OUT)
    for _ in range(2):
        with pytest.raises(ArithmeticError) as raised:
            CALLS[call](box)
        notes = [note for note in raised.value.__notes__ if "Adaptive" in note]
        assert len(notes) == 1
        assert "bounds=(lower, upper)" in notes[0]
        assert 'on_error="nan"' in notes[0]
    CALLS[call](box, bounds=(0.9, np.inf))


def test_bounds_that_are_too_wide():
    with pytest.raises(ArithmeticError) as raised:
        CALLS["grad"](jaxfd.blackbox(model, OUT), bounds=(-5.0, np.inf))
    assert any("narrower bounds=" in note for note in raised.value.__notes__)


def test_other_methods_say_nothing():
    with pytest.raises(ArithmeticError) as raised:
        jaxfd.grad(jaxfd.blackbox(model, OUT))(0.5)
    assert not any("Adaptive" in note for note in raised.value.__notes__)
