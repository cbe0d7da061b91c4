"""What a check asks about: a function, its arguments, and which of them move.

It exists so that gradients, Jacobians and Hessians, of one argument or several, real or complex,
are rows of numbers to all others. This room must not know what is said of the numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import Float, Int

from jaxfd._arrays import PyTree, entry_names, path_name, positions
from jaxfd._jaxpr import longest_table
from jaxfd._places import Schedule
from jaxfd._reports.probe import concrete, leaves_of
from jaxfd._transforms import samples


@dataclasses.dataclass(frozen=True)
class Question:
    """What is differentiated, by what, and where.

    Attributes:
        name: what errors call the caller.
        fun: the function.
        x: its argument; with ``argnums`` the tuple of all its arguments.
        argnums: which of these move; None where ``x`` is the only one.
        leaves: what moves, real and complex, each of any shape.
        out: what the function returns, a pytree of shapes and dtypes.
    """

    name: str
    fun: Callable[..., Any]
    x: PyTree
    argnums: int | tuple[int, ...] | None
    leaves: Sequence[np.ndarray]
    out: PyTree

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments of a call."""
        return (self.x,) if self.argnums is None else tuple(self.x)

    @property
    def moved(self) -> PyTree:
        """What moves, in its structure."""
        return chosen(self.x, self.argnums)

    @property
    def positions(self) -> int | tuple[int, ...]:
        """Which arguments of a call move."""
        return 0 if self.argnums is None else self.argnums

    @functools.cached_property
    def table(self) -> int:
        """The length of the longest table that the function looks up by what moves; 0 for none."""
        return longest_table(jax.make_jaxpr(self.call)(jax.tree.map(jnp.asarray, self.moved)))

    def call(self, moved: PyTree) -> Any:
        """The function with other numbers in place of those that move."""
        return self.fun(*self._with(moved))

    def _with(self, moved: PyTree) -> list[Any]:
        args = list(self.args)
        if isinstance(self.positions, tuple):
            for i, value in zip(self.positions, moved, strict=True):
                args[i] = value
        else:
            args[self.positions] = moved
        return args

    def placed(self, moved: PyTree, lead: tuple[int, ...]) -> list[Any]:
        """The arguments as NumPy has them, with a leading axis for those that do not move."""

        def spread(leaf: Any) -> np.ndarray:
            array = np.asarray(leaf)
            return np.broadcast_to(array, (*lead, *array.shape))

        fixed = dataclasses.replace(self, x=jax.tree.map(spread, self.x))
        return fixed._with(moved)

    def returned(self) -> PyTree:
        """The shapes and dtypes that the function returns; it is traced, not evaluated.

        Raises:
            TypeError: these are no real floating numbers.
        """

        def value(moved: PyTree) -> PyTree:
            args = self._with(moved)
            x = args[0] if self.argnums is None else tuple(args)
            return samples(self.fun, x, moved, jnp.zeros(1), self.name, argnums=self.argnums)[0]

        out: Any = jax.eval_shape(value, jax.tree.map(jnp.asarray, self.moved))
        for leaf in tree_util.tree_leaves(out):
            if not jnp.issubdtype(leaf.dtype, np.floating):
                raise TypeError(
                    f"{self.name} needs a function that returns real numbers, got {leaf.dtype}: "
                    "take real and imaginary parts, say."
                )
        if not sum(leaf.size for leaf in tree_util.tree_leaves(out)):
            raise TypeError(f"{self.name} needs a function that returns a number, got none.")
        return out

    def along(
        self,
        direction: Sequence[np.ndarray],
        distances: Float[np.ndarray, "k"],
        schedule: Schedule,
    ) -> tuple[Float[np.ndarray, "m"], Float[np.ndarray, "k m"], Float[np.ndarray, "k"]]:
        """Evaluates the function at ``x`` and on a line through it, in one batch.

        Args:
            direction: one leaf for each that moves, of its shape and dtype.
            distances: where on the line, in directions.
            schedule: how many points are evaluated at once.

        Returns:
            The outputs side by side at ``x``, the changes from them, and the distances really
            moved, in float64.
        """
        tree = tree_util.tree_structure(self.moved)
        args = self._with(jax.tree.map(jnp.asarray, self.moved))
        found = samples(
            self.fun,
            args[0] if self.argnums is None else tuple(args),
            tree_util.tree_unflatten(tree, direction),
            jnp.asarray(distances),
            self.name,
            schedule,
            self.argnums,
        )
        concrete(self.name, found[2])
        value, change = (
            [concrete(self.name, leaf) for leaf in tree_util.tree_leaves(part)]
            for part in found[:2]
        )
        return (
            np.concatenate([np.asarray(v).astype(np.float64).ravel() for v in value]),
            np.concatenate(
                [np.asarray(c).astype(np.float64).reshape(len(distances), -1) for c in change],
                axis=1,
            ),
            np.asarray(found[2]).astype(np.float64),
        )

    def layout(self, order: int) -> Int[np.ndarray, "1+order n"]:
        """Which output, and which entries of what moves, each entry of a derivative belongs to."""
        kinds = [[leaf.size for leaf in tree_util.tree_leaves(self.out)]]
        kinds += [[leaf.size for leaf in self.leaves]] * order
        ends = [np.cumsum([0, *sizes]) for sizes in kinds]
        blocks = [
            np.stack(np.meshgrid(*itertools.starmap(np.arange, ranges), indexing="ij")).reshape(
                1 + order, -1
            )
            for ranges in itertools.product(*(list(itertools.pairwise(e)) for e in ends))
        ]
        return np.concatenate(blocks, axis=1)

    def derivative(self, claim: Any, order: int) -> list[np.ndarray]:
        """The leaves of a claimed derivative, checked against function and arguments.

        Raises:
            TypeError, ValueError: it is none of this function.
        """
        inner: Any = tree_util.tree_structure(self.moved)
        wanted: Any = tree_util.tree_structure(self.out)
        for _ in range(order):
            wanted = wanted.compose(inner)
        found: Any = tree_util.tree_structure(claim)
        whose = "x has" if wanted == inner else "the derivative has"
        if found != wanted:
            raise ValueError(
                f"grad has the structure {found}, but {whose} {wanted}: give one array for each of "
                "x."
            )
        outs = [leaf.shape for leaf in tree_util.tree_leaves(self.out)]
        shapes = itertools.product(outs, *([[z.shape for z in self.leaves]] * order))
        real = not any(np.iscomplexobj(z) for z in self.leaves)
        claims = []
        paths = tree_util.tree_flatten_with_path(claim)[0]
        for (path, leaf), parts in zip(paths, shapes, strict=True):
            where, shape = f"grad{path_name(path)}", sum(parts, ())
            if isinstance(leaf, jax.core.Tracer):
                raise TypeError(f"{where} is traced: call check_grads outside of jit, vmap, grad.")
            array = np.asarray(leaf)
            if not any(jnp.issubdtype(array.dtype, kind) for kind in _kinds(real)):
                raise TypeError(f"{where} is {array.dtype}: give real numbers, as x has them.")
            if array.shape != shape:
                raise ValueError(
                    f"{where} has the shape {array.shape}, but {whose} {shape} there: give the "
                    "derivative by each entry of x."
                )
            claims.append(array)
        return claims

    def numbers_of(self, entries: Any) -> Int[np.ndarray, "k"]:
        """The entries that a user asks for, as numbers in ascending order.

        Args:
            entries: how many, chosen at random and alike in every call, or their names.

        Raises:
            TypeError, ValueError: there are no such entries.
        """
        size = sum(leaf.size for leaf in self.leaves)
        if isinstance(entries, int) and not isinstance(entries, bool):
            if entries < 1:
                raise ValueError(f"entries must be at least 1, got {entries}.")
            return np.sort(np.random.default_rng(0).permutation(size)[:entries])
        if isinstance(entries, str) or not isinstance(entries, Sequence):
            raise TypeError(
                f"entries must be a number of entries or a list of their names, such as 'x[0]', "
                f"got {entries!r}."
            )
        known = {name: i for i, name in enumerate(entry_names(self.moved))}
        strange = [name for name in entries if name not in known]
        if strange or not entries:
            few = ", ".join(itertools.islice(known, 3))
            raise ValueError(
                f"entries: {self.name} knows no {strange[0] if strange else 'empty list'!r}: names "
                f"are those of the report, {few} and so on."
            )
        return np.array(sorted({known[name] for name in entries}))


def ask(
    name: str, fun: Callable[..., Any], x: PyTree, argnums: int | tuple[int, ...] | None
) -> Question:
    """Checks what is asked, as far as it can be without an evaluation.

    Raises:
        TypeError: what moves is traced or no floating number, or what ``fun`` returns is not real.
        ValueError: nothing moves, or it is not finite.
    """
    moved = chosen(x, argnums)
    leaves = leaves_of(name, moved, real=False)
    unasked = Question(name, fun, x, argnums, leaves, None)
    return dataclasses.replace(unasked, out=unasked.returned())


def _kinds(real: bool) -> tuple[Any, ...]:
    kinds = (np.floating, np.integer)
    return kinds if real else (*kinds, np.complexfloating)


def chosen(x: PyTree, argnums: int | tuple[int, ...] | None) -> PyTree:
    """What moves of the arguments of a function.

    Raises:
        TypeError, ValueError: ``argnums`` do not fit.
    """
    if argnums is None:
        return x
    if not isinstance(x, (tuple, list)):
        raise TypeError(
            f"with argnums x is the tuple of all arguments of fun, got a {type(x).__name__}."
        )
    for i in positions(argnums):
        if not -len(x) <= i < len(x):
            raise ValueError(f"argnums={argnums} asks for argument {i}, but x holds {len(x)}.")
    return tuple(x[i] for i in argnums) if isinstance(argnums, tuple) else x[argnums]
