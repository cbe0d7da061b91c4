"""Limited-memory BFGS on differences, for functions with little noise or much.

It exists because a line search that asks for gradients at every trial, as optax's and scipy's do,
pays for each of them with an evaluation per entry. Here trials are values alone, and a gradient is
formed where a trial was accepted. What differs from ``optax.scale_by_lbfgs`` besides: pairs without
positive curvature, or with less of it than the noise of their gradients, are left out, and the
first metric is the diagonal of the Hessian, seen in the points of the first gradient.

This room must not know how steps are repeated, nor how a gradient is made of values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Self, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxfd._arrays import finfo
from jaxfd._estimate import Values, program_of, slopes, values_of
from jaxfd._functions import Subject
from jaxfd._methods import Method
from jaxfd._reports import eps_of, estimate_noise
from jaxfd._transforms import counted, schedule_of
from jaxfd.optim._executable import value_of
from jaxfd.optim._line import line_search
from jaxfd.optim._metric import Metric, first_metric, inverse_times, learn
from jaxfd.optim._state import add, number
from jaxfd.optim._steps import FLAT, FOUND, GOING, STUCK, Outcome
from jaxfd.optim._vector import Vectors, inside

# The first step goes no farther than so many times the size of an entry.
_REACH = 10.0
# Above so many eps, noise is taken for more than rounding. Points then lie where the curvature has
# lifted the function by so many times the noise.
_NOISY, _LIFT = 500.0, 100.0
# The share of the noise below which a promised decrease is none.
_BELOW_NOISE = 0.01
# How often the noise may be asked for.
_ASKS = 3


class QuasiNewtonState(NamedTuple):
    """What is known at ``x``; vectors have the entries of ``x`` in a row.

    Attributes:
        value: the value at ``x``.
        last_x: the point before.
        last_g: the gradient there.
        moved: whether ``x`` is another point.
        metric: what is known of the Hessian.
        central: whether differences are central ones.
        restart: whether to forget all pairs and look at curvatures.
        noise: the relative standard deviation of the function's noise.
        asked: how often that was estimated.
        away: whether ``x`` last went down far from the start, and as far again.
    """

    value: Any
    last_x: Float[Array, "n"]
    last_g: Float[Array, "n"]
    moved: Bool[Array, ""]
    metric: Metric
    central: Bool[Array, ""]
    restart: Bool[Array, ""]
    noise: Float[Array, ""]
    asked: Int[Array, ""]
    away: Bool[Array, ""]


class Gradient(NamedTuple):
    """A gradient, and what was seen beside it.

    Attributes:
        value: the value at ``x``.
        slopes: the gradient; entries may be not finite.
        diagonal: that of the Hessian, positive.
        blur: the standard deviation of the slopes' noise.
        bias: how far off the slopes of forward differences may be; 0 for others.
        flat: whether no point had another value than ``x``.
        evaluations: how many it took.
    """

    value: Float[Array, ""]
    slopes: Float[Array, "n"]
    diagonal: Float[Array, "n"]
    blur: Float[Array, "n"]
    bias: Float[Array, "n"]
    flat: Bool[Array, ""]
    evaluations: Int[Array, ""]


class QuasiNewton:
    """Steps of limited-memory BFGS; see `Steps`.

    Args:
        fun: the function.
        x: the start, a pytree of real floating arrays.
        box: lower and upper walls, pytrees like ``x``, or None.
        method: how to estimate gradients; None chooses between forward and central differences, and
            their steps.
        chunk_size: how many points are evaluated at once; None lets the library choose.
    """

    patience = 20
    exact = True

    def __init__(
        self,
        fun: Callable[[PyTree], Any],
        x: PyTree,
        box: tuple[PyTree, PyTree] | None,
        method: Method | None,
        chunk_size: int | None = None,
    ) -> None:
        self._fun, self._box, self._method = fun, box, method
        self._chunk_size = chunk_size
        self._vectors = Vectors(x)
        start = self._vectors.flat(x)
        self._typical = jnp.where(start == 0, 1.0, jnp.abs(start)).astype(start.dtype)

    @property
    def kind(self) -> Hashable:
        return self._vectors.kind, self._eps, self._chunk_size, self._composed

    @property
    def numbers(self) -> PyTree:
        return self._box, self._method, self._typical

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return ()

    def having(self, fun: Callable[[PyTree], Any] | None, numbers: PyTree) -> Self:
        other: Any = copy.copy(self)
        other._fun = Values(fun) if self._composed and fun is not None else fun
        other._box, other._method, other._typical = (None,) * 3 if numbers is None else numbers
        return cast(Self, other)

    def init(self, x: PyTree) -> tuple[QuasiNewtonState, Any, int]:
        self._composed = False
        if program_of(self._fun).traced:
            exact = values_of(self._fun, jax.make_jaxpr(self._fun)(x))
            self._composed = exact is not self._fun
            self._fun = exact
        fun = value_of(self._fun)
        fun.prepare(x)
        value = jnp.asarray(fun(x))
        self._eps = eps_of(self._fun, [*jax.tree.leaves(x), value])
        zero = jnp.zeros(self._vectors.size, self._vectors.dtype)
        no, one = jnp.zeros((), bool), jnp.ones((), zero.dtype)
        state = QuasiNewtonState(
            value=value,
            last_x=zero,
            last_g=zero,
            moved=no,
            metric=first_metric(zero),
            central=no,
            restart=~no,
            noise=one * self._eps,
            asked=number(0),
            away=no,
        )
        return state, value, 1

    def step(
        self, x: PyTree, state: QuasiNewtonState, least: Any
    ) -> tuple[PyTree, QuasiNewtonState, Outcome]:
        v = self._vectors.flat(x)
        size = jnp.maximum(jnp.abs(v), self._typical)
        gradient = self._gradient(x, state, size)
        value = gradient.value
        finite = jnp.isfinite(gradient.slopes)
        g = jnp.where(finite, gradient.slopes, 0)
        metric = learn(
            state.metric,
            gradient.diagonal,
            v - state.last_x,
            g - state.last_g,
            gradient.blur,
            state.moved,
            state.restart,
        )
        state = state._replace(value=value, metric=metric)
        free = jnp.ones_like(finite)
        if self._box is not None:
            lower, upper = map(self._vectors.flat, self._box)
            free = ~(((v <= lower) & (g > 0)) | ((v >= upper) & (g < 0)))
        p = jnp.where(free, -inverse_times(metric, jnp.where(free, g, 0)), 0)
        height = jnp.abs(value).astype(v.dtype)
        noise = jnp.maximum(state.noise, finfo(value.dtype).eps) * height
        promised = -jnp.vdot(g, p)
        floor = jnp.maximum(least.astype(v.dtype), _BELOW_NOISE * noise)
        settled = ((promised <= floor) & (metric.used > 0)) | ((promised == 0) & state.restart)
        # A function that is constant in pieces is flat everywhere: first ask how far that goes.
        known = (state.asked > 0) | (self._method is not None) | jnp.any(g != 0)
        settled &= known & jnp.all(finite)
        # A forward difference vanishes beside the minimum: how much lower may that be?
        bias = jnp.where(free, gradient.bias, 0)
        doubt = settled & (jnp.vdot(bias, inverse_times(metric, bias)) > floor)
        settled &= ~doubt
        line = line_search(
            lambda v: self._fun(self._vectors.tree(v)),
            lambda t: self._at(v, t, p),
            v,
            p,
            g,
            state.value,
            noise,
            state.metric,
            settled | doubt,
        )
        fresh = state.metric.used == 0
        failed = ~line.found & ~settled
        ask = failed & ~doubt & (state.asked < _ASKS) & (self._method is None)
        dead = failed & (state.central | (self._method is not None)) & fresh
        new = jnp.where(line.found, self._at(v, line.best, p), v)
        # No step that central differences can tell from none.
        blind = jnp.all(jnp.abs(p) <= self._eps ** (2 / 3) * size)
        small = (promised <= 10 * noise) | blind
        status = jnp.where(settled | (dead & small), FOUND, jnp.where(dead, STUCK, GOING))
        status = jnp.where((status == FOUND) & gradient.flat, FLAT, status)
        # Where digits of the start are lost, a move as long as x is wide.
        far = jnp.maximum(self._typical, 1) / self._eps
        away = jnp.any((jnp.abs(new) > far) & (jnp.abs(new - v) > jnp.abs(new) / 4))
        away = jnp.where(line.found & (line.value < value), away, state.away)
        value = jnp.where(line.found, line.value, value)
        state = state._replace(
            value=value,
            last_x=v,
            last_g=g,
            moved=line.found,
            central=state.central | failed,
            restart=failed & (state.central | (self._method is not None)),
            away=away,
        )
        x = self._vectors.tree(new)
        outcome = Outcome(
            x=x,
            value=value,
            noise=jnp.where(noise > 0, noise, 0).astype(value.dtype),
            evaluations=add(gradient.evaluations, line.trials),
            skipped=~jnp.all(finite),
            status=status.astype(np.int32),
            ask=ask,
            endless=away,
        )
        return x, state, outcome

    def told(self, x: PyTree, state: QuasiNewtonState) -> tuple[QuasiNewtonState, int, bool]:
        size = np.maximum(np.abs(self._vectors.flat(x)), np.asarray(self._typical))
        signs = np.where(np.arange(size.size) % 2, -1, 1).astype(size.dtype)
        bounded = self._box is not None
        fun = (lambda x: self._fun(inside(x, self._box))) if bounded else self._fun
        state = state._replace(asked=state.asked + number(1))
        try:
            found = estimate_noise(fun, x, direction=self._vectors.tree(jnp.asarray(size * signs)))
        except ValueError:  # too few values are finite
            return state, 0, False
        relative = found.level / max(abs(float(state.value)), np.finfo(np.float64).tiny)
        flat = not np.any(np.asarray(state.last_g))
        if not (found.conclusive or flat) or relative <= 4 * float(state.noise):
            return state, found.evaluations, False
        noise = jnp.asarray(min(relative, 1e-2), state.noise.dtype)
        yes = jnp.ones((), bool)
        state = state._replace(noise=noise, restart=yes, central=~yes)
        return state, found.evaluations, True

    def _gradient(self, x: PyTree, state: QuasiNewtonState, size: Float[Array, "n"]) -> Gradient:
        """The gradient at ``x``, whose entries are of that size."""
        flat, tree = self._vectors.flat, self._vectors.tree
        if self._method is not None:
            found = counted(self._fun, self._method, self._chunk_size, self._box)(x)
            g = flat(found.derivative)
            # At first, the entry that moves most moves by its own size.
            steepest = jnp.max(jnp.where(jnp.isfinite(g), jnp.abs(g) / size, 0), initial=0)
            diagonal = jnp.where(state.restart & (steepest > 0), steepest, state.metric.diagonal)
            cost = jnp.asarray(found.evaluations, np.int32)
            none = jnp.zeros_like(g)
            unknown = jnp.zeros((), bool)
            value = found.value.astype(state.value.dtype)
            return Gradient(value, g, diagonal, none, none, unknown, cost)
        diagonal = state.metric.diagonal
        height = jnp.abs(state.value).astype(size.dtype)
        noise = jnp.maximum(state.noise * height, finfo(size.dtype).tiny)
        noisy = state.noise > _NOISY * self._eps
        power = jnp.where(state.restart, 1 / 4, jnp.where(state.central, 1 / 3, 1 / 2))
        h = size * state.noise ** power.astype(size.dtype)
        lifted = jnp.sqrt(2 * _LIFT * noise / diagonal)
        h = jnp.where(noisy & ~state.restart, jnp.maximum(lifted, self._eps**0.5 * size), h)
        h = jnp.minimum(h, size / 10)
        both = noisy | state.central | state.restart
        slopes_at = slopes(self._fun, self._box, schedule_of(self._chunk_size))
        value, g, bend, besides = lax.cond(
            both,
            lambda: slopes_at(x, state.value, tree(h), True),
            lambda: slopes_at(x, state.value, tree(h), False),
        )
        g, bend = flat(g), jnp.abs(flat(bend))
        # On both sides of every entry nothing but the value itself.
        even = both & jnp.all((g == 0) & (bend == 0))
        seen = jnp.isfinite(bend) & (bend * h**2 > 4 * noise)
        kept = jnp.clip(bend, diagonal * 1e-4, diagonal * 1e4)
        diagonal = jnp.where(noisy, jnp.where(seen, kept, diagonal / 10), diagonal)
        diagonal = jnp.where(state.restart, bend, diagonal)
        least = jnp.where(noisy | state.restart, jnp.abs(g) / (_REACH * size), 0)
        diagonal = jnp.maximum(diagonal, least)
        diagonal = jnp.where(jnp.isfinite(diagonal) & (diagonal > 0), diagonal, 1)
        cost = self._vectors.size * jnp.where(both, 2, 1) + besides
        blur = jnp.where(noisy, noise / h, 0)
        bias = jnp.where(both, 0, h * diagonal / 2)
        cost = cost.astype(np.int32)
        return Gradient(value.astype(state.value.dtype), g, diagonal, blur, bias, even, cost)

    def _at(self, v: Any, t: Any, p: Any) -> Any:
        new = v + t * p
        return new if self._box is None else jnp.clip(new, *map(self._vectors.flat, self._box))
