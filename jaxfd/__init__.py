"""Gradients of functions that cannot be differentiated, by evaluating them."""

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
