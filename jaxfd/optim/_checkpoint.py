"""A run on disk, so that a killed program goes on where it was.

A file is either the old one or the new one, whenever the program dies, and it knows what it is a
run of. This room must not know what a run holds.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxfd.optim._state import key_bits, key_of


def fingerprint(program: Callable[..., Any], *args: Any, name: str) -> str:
    """What tells one problem from another: the traced program with its constants, and arguments."""
    closed = jax.make_jaxpr(program)(*args)
    digest = hashlib.sha256(name.encode())
    # Addresses of host functions differ from process to process.
    digest.update(re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)).encode())
    for leaf in (*_constants(closed), *jax.tree.leaves(args)):
        array = np.asarray(key_bits(leaf))
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _constants(closed: Any) -> Iterator[Any]:
    yield from getattr(closed, "consts", ())
    for eqn in getattr(closed, "jaxpr", closed).eqns:
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    yield from _constants(inner)


class Checkpoint:
    """A folder that holds the last state of one run.

    Args:
        folder: the folder; it is made if need be.
        identity: the `fingerprint` of the problem.

    Raises:
        ValueError: there is a file in its place.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: str) -> None:
        self._folder, self._identity = Path(folder), identity
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(
                f"checkpoint must be a folder, but {self._folder} is, or is in, a file: give "
                "another name."
            ) from None
        self._path = self._folder / "run.npz"

    def load(self, like: PyTree) -> tuple[PyTree, np.ndarray] | None:
        """The state and the history that were saved; None where there are none.

        Raises:
            ValueError: it was another problem.
        """
        if not self._path.exists():
            return None
        with np.load(self._path) as file:
            if str(file["identity"]) != self._identity:
                raise ValueError(
                    f"checkpoint: {self._folder} holds a run of another problem (another function, "
                    "x0, bounds, method or optimizer, or another version of jax or jaxfd): give "
                    "another folder, or delete this one."
                )
            leaves, tree = jax.tree.flatten(like)
            found = [_restored(file[f"leaf{i}"], leaf) for i, leaf in enumerate(leaves)]
            return jax.tree.unflatten(tree, found), file["history"]

    def save(self, state: PyTree, history: np.ndarray) -> None:
        """Writes state and history in place of those before."""
        buffer = io.BytesIO()
        leaves = [np.asarray(key_bits(leaf)) for leaf in jax.tree.leaves(state)]
        named: dict[str, Any] = {f"leaf{i}": leaf for i, leaf in enumerate(leaves)}
        np.savez(buffer, identity=self._identity, history=history, **named)
        # The process id lets two programs share a folder by mistake without a broken file.
        draft = self._folder / f"run.{os.getpid()}.tmp"
        with open(draft, "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self._path)


def _restored(data: np.ndarray, like: Any) -> Any:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return key_of(jnp.asarray(data), like)
    # NumPy forgets the names of dtypes that are not its own.
    return jnp.asarray(data.view(like.dtype) if data.dtype.kind == "V" else data)
