"""The method that finds its own step. What it does is in the estimator of the same name."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from jaxfd._arrays import check_integer, check_positive, register
from jaxfd._methods.method import Method
from jaxfd._methods.step import Relative


@register
@dataclasses.dataclass(frozen=True)
class Adaptive(Method):
    """Finds the step of every entry, and a bound of the error, from how the function behaves.

    A ladder of steps and two points very close to ``x`` tell scale and noise of the function; up to
    sixteen points within the radius where truncation meets noise are fitted with polynomials, and
    the fit that promises the smallest error is kept. Where that has not settled, a few further
    batches go down or up. 24 evaluations an entry for most functions, 60 at most, and one for the
    value; a kernel may run a few more to fill a batch. Points that are not finite are left out; at
    the edge of a domain, where one side is not finite at all or the function raises, give bounds.

    Called outside of ``jit``, the search runs in NumPy and only the function is compiled, so that
    the first call is quick; ``jax.jit`` of the gradient compiles the search as well, for seconds,
    and makes thousands of calls with few entries faster.

    Noise is recognised and the step grows with it; where nothing but a straight line and noise is
    seen, up to 5e8 times ``max(|x|, typical)``. A bound holds for 95 % of entries or more. At a
    discontinuity it is infinite, at a kink no less than half the jump of the slope. A function that
    waves thousands of times within ``max(|x|, typical)`` may pass for noise or for a slow one.

    Second derivatives (`hessian`, `hessian_diagonal`) and those of higher order of one variable
    (`derivative`, up to the sixth) are found in the same way; a pair of entries takes 32
    evaluations more, 96 at most.

    Args:
        noise: the standard deviation of the function's noise, in the units of its output, where it
            is known; None lets the method see for itself.
        repeats: how many times each point is evaluated; the mean counts. For functions that return
            another value at each call.
        typical: the size below which an entry counts as small, in the argument's units: a number,
            or a pytree like the argument. The first ladder begins at half of ``max(|x|, typical)``.

    Raises:
        TypeError: ``repeats`` is no integer.
        ValueError: ``noise`` is negative or not finite, ``repeats`` below 1, or ``typical`` not
            positive.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> found = jaxfd.estimate(jnp.log, method=jaxfd.Adaptive())(1e-6)
        >>> print(f"{found.grad:.3e}", bool(abs(found.grad - 1e6) < found.error))
        1.000e+06 True

    Reference:
        The noise: J. More and S. Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33
        (2011) 1292-1314. The ladder: R. Stepleman and N. Winarsky, "Adaptive numerical
        differentiation", Math. Comp. 33 (1979) 1257-1264. The fits: G. Forsythe, J. Soc. Indust.
        Appl. Math. 5 (1957) 74-88.
    """

    # Beyond that too few points are left to judge a fit by.
    highest: ClassVar[int | None] = 6

    noise: Any = None
    repeats: int = dataclasses.field(default=1, metadata={"static": True})
    typical: Any = 1.0
    searches = True

    def __post_init__(self) -> None:
        check_positive(self.noise, "noise", zero=True)
        check_positive(self.typical, "typical")
        check_integer(self.repeats, "Adaptive: repeats")


def search_like(step: Any) -> Adaptive:
    """The search for functions of the scale that a default step assumes.

    Args:
        step: None, or a `Relative`.
    """
    return Adaptive(typical=step.typical if isinstance(step, Relative) else 1.0)
