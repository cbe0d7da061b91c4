"""Optimisation with estimated gradients: links for optax chains, and one call for everything.

The only room that imports optax. `estimate_gradient` is the link; `spsa` and `minimize` with an
optimiser are built on it. `minimize` without one, in `_quasi_newton`, and `least_squares`, in
`_fits`, run on the host, on functions as `_rows`.
"""

from jaxfd.optim._fits import Fit as Fit, Minimum as Minimum, least_squares as least_squares
from jaxfd.optim._gradient import (
    EstimateState as EstimateState,
    estimate_gradient as estimate_gradient,
)
from jaxfd.optim._mezo import mezo as mezo
from jaxfd.optim._minimize import minimize as minimize
from jaxfd.optim._result import Result as Result
from jaxfd.optim._spsa import spsa as spsa
from jaxfd.optim._status import Status as Status

__all__ = [
    "EstimateState",
    "Fit",
    "Minimum",
    "Result",
    "Status",
    "estimate_gradient",
    "least_squares",
    "mezo",
    "minimize",
    "spsa",
]
