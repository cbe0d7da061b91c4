"""A line through ``x`` on which a function of one number is probed.

Noise and slopes are read off values along one line that moves every entry. This room chooses the
line and brings the values to the host; it must not know what is read off them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree, Shaped

from jaxfd._arrays import bind, finfo, power_of_two
from jaxfd._estimate import program_of
from jaxfd._places import Schedule
from jaxfd._points import walls_of
from jaxfd._reports.entries import check_real
from jaxfd._transforms import samples


def leaves_of(name: str, x: PyTree, real: bool = True) -> list[np.ndarray]:
    """The leaves of ``x`` as arrays of the dtypes that JAX gives them.

    Args:
        name: what errors call the caller.
        x: the argument.
        real: whether complex numbers are refused.

    Raises:
        TypeError: a leaf is traced, or does not hold real floating numbers.
        ValueError: there is no number at all, or one is not finite.
    """
    check_real(name, x, real)
    leaves = [
        np.asarray(leaf, jax.dtypes.canonicalize_dtype(jnp.result_type(leaf)))
        for leaf in tree_util.tree_leaves(x)
    ]
    if not sum(leaf.size for leaf in leaves):
        raise ValueError(f"{name}: x holds no numbers, so there is nothing to move: give some.")
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        raise ValueError(f"{name} needs a finite x, got inf or nan in it: choose another.")
    return leaves


def size_of(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """``max(|x|, 1)``, rounded down to powers of two, in float64."""
    size: np.ndarray = power_of_two(np, np.maximum(np.abs(x.astype(np.float64)), 1.0))
    return size


def default_direction(leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A direction that moves every entry by 1/4 to 1 of ``max(|x|, 1)``, the same for every call.

    Signs and sizes look random, so that what entries do seldom cancels. Sizes have four binary
    digits, so that points at powers of two along it are exact. Of a complex entry both parts move.
    """
    rng = np.random.default_rng(0)

    def part(x: np.ndarray) -> np.ndarray:
        return np.asarray(
            size_of(x) * rng.choice([-1, 1], x.shape) * rng.integers(8, 16, x.shape) / 16
        )

    return [
        (part(x.real) + 1j * part(x.imag) if np.iscomplexobj(x) else part(x)).astype(x.dtype)
        for x in leaves
    ]


def rooms(
    name: str,
    args: tuple[Any, ...],
    argnums: int | tuple[int, ...],
    leaves: Sequence[np.ndarray],
    bounds: tuple[PyTree, PyTree] | None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """How far every entry may go up and down, shaped as it is."""
    if bounds is None:
        free = [np.full(z.shape, np.inf) for z in leaves]
        return free, free
    walls = walls_of(bind(name, args, {}, argnums), bounds)
    down, up = (
        [
            np.broadcast_to(abs(np.asarray(w, np.float64) - z.astype(np.float64)), z.shape)
            for w, z in zip(side, leaves, strict=True)
        ]
        for side in walls
    )
    return up, down


def line_within(
    leaves: Sequence[np.ndarray], up: Sequence[np.ndarray], down: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], tuple[float, float]]:
    """A direction, and how far it may be followed forwards and backwards inside a box.

    It points to the roomier side of every entry, and leaves alone those that have no room.
    """
    line = default_direction(leaves)
    forward, backward = math.inf, math.inf
    for i, (z, above, below) in enumerate(zip(leaves, up, down, strict=True)):
        if np.all(np.isinf(above) & np.isinf(below)):
            continue
        size = np.abs(line[i].astype(np.float64))
        free = np.maximum(below, above) > 0
        line[i] = np.where(free, np.where(above >= below, size, -size), 0).astype(z.dtype)
        # Points are rounded: they keep away from the wall.
        long, short = np.maximum(below, above) / size, np.minimum(below, above) / size
        forward = min(forward, np.min(long[free], initial=math.inf) / 2)
        backward = min(backward, np.min(short[free], initial=math.inf) / 2)
    if not any(v.any() for v in line):
        return line, (0.0, 0.0)
    return line, (float(forward), float(backward))


def eps_of(fun: Callable[..., Any], leaves: Sequence[Any]) -> float:
    """The relative spacing of the coarsest of the given numbers, or of what a black box returns.

    Args:
        fun: the function.
        leaves: its arguments, and its value where that is known.
    """
    known = program_of(fun).eps
    if known is not None:
        return known
    return max(float(finfo(leaf.dtype).eps) for leaf in leaves)


def check_output(name: str, fun: Callable[[PyTree], Any], x: PyTree) -> None:
    """Raises TypeError unless a function returns one real number. It is traced, not evaluated."""

    def value(x: PyTree) -> PyTree:
        return samples(fun, x, x, jnp.zeros(1), name)[0]

    out: Any = jax.eval_shape(value, jax.tree.map(jnp.asarray, x))
    check_one_number(f"{name} needs a function", out)
    if not jnp.issubdtype(out.dtype, np.floating):
        raise TypeError(
            f"{name} needs a function that returns a real number, got {out.dtype}: take its real "
            "part, say."
        )


def check_one_number(what: str, out: Any, advice: str = "") -> None:
    """Raises TypeError where the shape of an output is not that of one number."""
    if not tree_util.all_leaves([out]) or out.shape:
        kind = f"the shape {out.shape}" if hasattr(out, "shape") else f"a {type(out).__name__}"
        raise TypeError(f"{what} that returns one number, got {kind}: reduce it to one{advice}.")


def concrete(name: str, value: Any) -> Any:
    """A value of the function, if it is known by now.

    Raises:
        TypeError: it is traced, though ``x`` is not.
    """
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} needs concrete numbers, but fun returned a traced one: call it outside of "
            "jit, vmap and grad."
        )
    return value


def probe(
    name: str,
    fun: Callable[[PyTree], Any],
    x: PyTree,
    direction: Sequence[np.ndarray],
    distances: Float[np.ndarray, "k"],
    schedule: Schedule,
) -> tuple[Shaped[Any, ""], Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """Evaluates a function at ``x`` and along a line, in one batch; `check_output` comes before.

    Args:
        name: what errors call the caller.
        fun: the function.
        x: the argument.
        direction: one leaf for each leaf of ``x``, of its shape and dtype.
        distances: where on the line, in directions.
        schedule: how many points are evaluated at once.

    Returns:
        The value at ``x``, as it came; the changes from it and the distances really moved, in
        float64.

    Raises:
        TypeError: the function returned a traced number.
    """
    leaves, tree = tree_util.tree_flatten(x)
    arrays = [jnp.asarray(leaf) for leaf in leaves]
    value, change, moved = samples(
        fun,
        tree_util.tree_unflatten(tree, arrays),
        tree_util.tree_unflatten(tree, direction),
        jnp.asarray(distances),
        name,
        schedule,
    )
    concrete(name, value)
    wide, away = (np.asarray(a).astype(np.float64) for a in (change, moved))
    return value, wide, away
