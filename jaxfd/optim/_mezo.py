"""Steps in the parameters' own place, replayed from a seed.

It exists because an optax update is a tree as large as the parameters. Here there is none: the
directions of an estimate are added to the parameters as they are made. It must not know how
points are evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxfd._arrays import PyTree
from jaxfd._estimate import Needs, StepInPlace, program_of
from jaxfd._random import RandomDirections, is_random
from jaxfd._transforms import check
from jaxfd.optim._objective import check_loss, with_extra
from jaxfd.optim._state import key_bits, key_of, value_dtype


class MezoState(NamedTuple):
    """The state of `mezo`: arrays only.

    Attributes:
        count: steps so far.
        skipped: steps in which a sample was lost because its value was not finite.
        value: the mean of the values at the points of the last step; NaN before the first.
        key: the bits of the key that the next step splits.
    """

    count: Int[Array, ""]  # type: ignore[assignment]
    skipped: Int[Array, ""]
    value: Float[Array, ""]
    key: Any


class Mezo(NamedTuple):
    """What `mezo` returns.

    Attributes:
        init: makes the first state from the parameters.
        step: ``step(params, state, value_fn=...)`` returns new parameters and the next state.
    """

    init: Callable[[PyTree], MezoState]
    step: Callable[..., tuple[PyTree, MezoState]]


def mezo(
    learning_rate: float | Callable[[Any], Any],
    method: RandomDirections,
    *,
    chunk_size: int | None = None,
) -> Mezo:
    """Descends without ever holding a gradient: two evaluations a step, and memory of one.

    Each step evaluates at perturbed parameters, then adds the same directions, made anew from the
    key, to the parameters themselves. Donate them to ``jit`` and a step takes no more memory than
    one evaluation. What a step does is ``optax.sgd`` on the estimated gradient.

    Args:
        learning_rate: a number, or a function of the number of steps so far.
        method: a random method: ``jaxfd.SPSA(key, sigma=1e-3)``. The state splits its key. The
            subspace of `jaxfd.Guided` stays as it is given: there is no gradient to follow.
        chunk_size: as for `jaxfd.grad`.

    Returns:
        A pair of functions, ``init(params)`` and ``step(params, state, *, value_fn, **extra)``.
        The function is called with the parameters, and with those of the other arguments that its
        signature names, or all if it takes ``**kwargs``. Samples that are not finite are left out
        and counted in the state.

    Raises:
        TypeError: ``method`` is no random method; parameters are integers; at the step,
            ``value_fn`` is missing, or returns something else than one number.

    Example:
        >>> import functools, jax, jax.numpy as jnp, jaxfd
        >>> def loss(w, x):
        ...     return jnp.mean((x @ w - 1.0) ** 2)
        >>> optimizer = jaxfd.optim.mezo(0.02, jaxfd.SPSA(jax.random.key(0), sigma=1e-2))
        >>> step = jax.jit(functools.partial(optimizer.step, value_fn=loss), donate_argnums=(0, 1))
        >>> w, x = jnp.zeros(4), jnp.eye(4) + 1.0
        >>> state = optimizer.init(w)
        >>> for _ in range(300):
        ...     w, state = step(w, state, x=x)
        >>> print(bool(loss(w, x) < 0.01))
        True

    Reference:
        S. Malladi et al., "Fine-tuning language models with just forward passes", NeurIPS 2023.
    """
    task = StepInPlace("mezo", schedule=check(method, chunk_size))
    if not is_random(method):
        raise TypeError(
            f"mezo needs a random method, got {method!r}: take jaxfd.SPSA(key), say; for others "
            "estimate_gradient with optax.sgd."
        )

    def init(params: PyTree) -> MezoState:
        # Each an array of its own, and the key a copy: the state may be donated.
        return MezoState(
            count=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            value=jnp.full((), jnp.nan, value_dtype("mezo", params)),
            key=jnp.array(key_bits(method.key)),
        )

    def step(
        params: PyTree,
        state: MezoState,
        *,
        value_fn: Callable[..., Any] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, MezoState]:
        if value_fn is None:
            raise TypeError(
                "mezo needs the function that it minimises: write step(params, state, "
                "value_fn=loss)."
            )
        pair = jax.random.split(key_of(state.key, method.key))
        now = method.following(pair[1], None)
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        fun = with_extra(value_fn, extra)
        try:
            needs = Needs(rate=jnp.asarray(rate))
            found = program_of(fun).run(task, (params,), {}, now, needs)
        except TypeError:
            check_loss("mezo", fun, params)
            raise
        return found.argument, MezoState(
            optax.safe_increment(state.count),
            state.skipped + found.lost.astype(jnp.int32),
            found.value.astype(state.value.dtype),
            key_bits(pair[0]),
        )

    return Mezo(init, step)
