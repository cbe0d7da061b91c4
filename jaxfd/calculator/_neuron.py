"""One neuron: its loss, the derivatives by differences and by backpropagation, and steps downhill.

What a gradient is for, on the smallest network there is. Must not know of the server.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from jaxfd.calculator._fields import FieldError, Fields

ACTIVATIONS = ("tanh", "sigmoid", "relu", "identity", "step")
PARAMETERS = ("w1", "w2", "b")
_CONSTANTS = ("x1", "x2", "t")
_MOST_STEPS = 50


def by_neuron(given: object) -> dict[str, Any]:
    """A neuron's loss and its gradient, and where gradient descent goes.

    Args:
        given: texts of the fields: inputs ``x1``, ``x2``, weights ``w1``, ``w2``, bias ``b``,
            target ``t``, activation ``a``, step ``h`` of the differences, rate ``r`` of the
            descent, and ``steps``, how many to go.

    Returns:
        What the page shows of the neuron after the steps, and the losses on the way.

    Raises:
        FieldError: a field is wrong.
    """
    read = read_neuron(given)
    numbers, activation, h, rate, steps = read
    losses = []
    for _ in range(steps):
        value, slopes = _differences(activation, numbers, h)[:2]
        losses.append(value)
        for name, slope in zip(PARAMETERS, slopes, strict=True):
            numbers[name] -= rate * slope
        if not all(math.isfinite(numbers[name]) and abs(numbers[name]) < 1e30 for name in numbers):
            raise FieldError({"r": "The descent runs away: take a smaller rate."})
    value, slopes, bars, output, exact = _differences(activation, numbers, h)
    losses.append(value)
    return {
        "output": f"{output:.8g}",
        "loss": f"{value:.8g}",
        "losses": losses,
        "parameters": {name: repr(numbers[name]) for name in PARAMETERS},
        "rows": [
            {
                "name": name,
                "value": f"{numbers[name]:.8g}",
                "estimate": f"{slope:.10g}",
                "exact": f"{true:.10g}",
                "error": f"{abs(slope - true):.2g}",
                "bar": f"{bar:.2g}",
                "next": f"{numbers[name] - rate * slope:.8g}",
            }
            for name, slope, true, bar in zip(PARAMETERS, slopes, exact, bars, strict=True)
        ],
        "note": _note(activation, slopes, exact, h, value),
    }


def read_neuron(given: object) -> tuple[dict[str, float], str, float, float, int]:
    """Reads the fields: numbers by name, activation, step, rate, how many steps.

    Raises:
        FieldError: a field is wrong.
    """
    fields = Fields(given)
    numbers = {}
    for name in (*_CONSTANTS, *PARAMETERS):
        number = fields.number(name)
        if number is not None:
            numbers[name] = float(number.value)
            if abs(numbers[name]) > 1e6:
                fields.problems[name] = "This is too large for a neuron: at most 1e6."
    activation = fields.choice("a", ACTIVATIONS)
    h = fields.number("h", positive=True)
    rate = fields.number("r", "The rate", positive=True)
    steps = fields.choice("steps", tuple(map(str, range(_MOST_STEPS + 1))))
    fields.check()
    assert h is not None
    assert rate is not None
    return numbers, activation, float(h.value), float(rate.value), int(steps)


def _differences(
    activation: str, numbers: dict[str, float], h: float
) -> tuple[float, list[float], list[float], float, list[float]]:
    """Loss, derivatives by differences, their bars, output, and derivatives by backpropagation."""
    import jax

    import jaxfd

    loss, output, exact = _functions(activation)
    arguments = [numbers[name] for name in (*PARAMETERS, *_CONSTANTS)]
    with jax.enable_x64(True):
        found = jaxfd.estimate(loss, argnums=(0, 1, 2), method=jaxfd.Central(step=h))(*arguments)
        found, out, slopes = jax.device_get((found, output(*arguments), exact(*arguments)))
    return (
        float(found.value),
        [float(g) for g in found.grad],
        [float(e) for e in found.error],
        float(out),
        [float(s) for s in slopes],
    )


@functools.cache
def _functions(activation: str) -> tuple[Callable[..., Any], ...]:
    """Loss, output and the exact gradient of the loss."""
    import jax
    import jax.numpy as jnp

    bends: dict[str, Callable[[Any], Any]] = {
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "relu": jax.nn.relu,
        "identity": lambda z: z,
        "step": lambda z: jnp.where(z > 0, 1.0, 0.0) + 0.0 * z,
    }
    bend = bends[activation]

    def output(w1: Any, w2: Any, b: Any, x1: Any, x2: Any) -> Any:
        return bend(w1 * x1 + w2 * x2 + b)

    def loss(w1: Any, w2: Any, b: Any, x1: Any, x2: Any, t: Any) -> Any:
        return (output(w1, w2, b, x1, x2) - t) ** 2

    exact = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    shown = jax.jit(lambda *arguments: output(*arguments[:-1]))
    return loss, shown, exact


def _note(activation: str, slopes: list[float], exact: list[float], h: float, loss: float) -> str:
    """What the two gradients have to say to each other."""
    if activation == "step" and not any(exact):
        # What rounding leaves of equal losses is no slope.
        if max(map(abs, slopes)) * h > 1e-9 * abs(loss):
            return (
                "Backpropagation sees flat steps and says 0; the difference reached across the "
                "jump and sees where the loss goes down."
            )
        return (
            "Both say 0: the step is flat here, and h does not reach across the jump. "
            "Take a larger h."
        )
    if not any(exact):
        return "The loss is flat here: nothing moves."
    apart = max(abs(a - b) for a, b in zip(slopes, exact, strict=True))
    if apart > 0.05 * max(map(abs, exact)):
        return "The two gradients differ: h is too long, or too short, to tell."
    return (
        "Both gradients agree. The differences took two evaluations for each parameter, "
        "backpropagation one pass for all: with a million parameters only one of them is quick."
    )
