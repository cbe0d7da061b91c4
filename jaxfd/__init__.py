"""Gradients of functions that cannot be differentiated, by evaluating them."""

import warnings as _warnings

import jax as _jax

from jaxfd._blackbox import blackbox
from jaxfd._differentiable import differentiable
from jaxfd._methods import Backward, Central, ComplexStep, Forward
from jaxfd._result import Estimate
from jaxfd._step import Relative
from jaxfd._transforms import (
    derivative,
    estimate,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    value_and_grad,
)

__all__ = [
    "Backward",
    "Central",
    "ComplexStep",
    "Estimate",
    "Forward",
    "Relative",
    "blackbox",
    "derivative",
    "differentiable",
    "estimate",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "value_and_grad",
]

if _jax.__version__ == "0.10.2":
    _warnings.warn(
        "jax 0.10.2 on CPU computes differences such as sum(f(s) - f(-s)) wrongly under jit "
        "(jax-ml/jax#39103), and with them what jaxfd returns: install another version of jax.",
        RuntimeWarning,
        stacklevel=2,
    )
