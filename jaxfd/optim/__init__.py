"""Optimisation with estimated gradients: links for optax chains, and one call for everything.

The only room that imports optax. `estimate_gradient` is the link; `spsa` and `minimize` are built
on it.
"""

from jaxfd.optim._gradient import (
    EstimateState as EstimateState,
    estimate_gradient as estimate_gradient,
)
from jaxfd.optim._mezo import mezo as mezo
from jaxfd.optim._minimize import minimize as minimize
from jaxfd.optim._result import Result as Result
from jaxfd.optim._spsa import spsa as spsa

__all__ = ["EstimateState", "Result", "estimate_gradient", "mezo", "minimize", "spsa"]
