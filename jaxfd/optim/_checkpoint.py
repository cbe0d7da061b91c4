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

from jaxfd._jaxpr import every_eqn
from jaxfd._primitives import host_call_p
from jaxfd.optim._state import key_bits, key_of


def identity_of(program: Callable[..., Any], *args: Any, known: Any, name: str) -> str:
    """What tells one problem from another.

    That is the traced program with its constants, the compiled code of the host functions in it,
    and what it begins with.

    Args:
        program: the program.
        args: its arguments.
        known: what there is of them without any evaluation, which noise may change.
        name: the function's.
    """
    closed = jax.make_jaxpr(program)(*args)
    digest = hashlib.sha256(name.encode())
    # Addresses of host functions differ from process to process.
    digest.update(re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)).encode())
    for eqn in every_eqn(closed):
        if eqn.primitive is host_call_p:
            digest.update(
                repr(sorted(getattr(eqn.params["callback"], "parts", {}).items())).encode()
            )
    for leaf in (*_constants(closed), *jax.tree.leaves(known)):
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
        identity: what tells the problem from others, see `identity_of`.

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

    def load(self, like: PyTree) -> tuple[PyTree, np.ndarray, float] | None:
        """The state, the history and the tolerance that were saved; None where there are none.

        A tolerance that is not known is 0.

        Raises:
            ValueError: it was another problem, or the file is damaged.
        """
        if not self._path.exists():
            return None
        try:
            with open(self._path, "rb") as bytes_of, np.load(bytes_of) as file:
                saved = {key: file[key] for key in file.files}
            identity, history = str(saved["identity"]), saved["history"]
        except Exception as error:
            raise self._damaged(error) from error
        if identity != self._identity:
            raise ValueError(
                f"checkpoint: {self._folder} holds a run of another problem (another function, "
                "x0, bounds, method or optimizer, or another version of Python, jax or jaxfd): "
                "give another folder, or delete this one."
            )
        leaves, tree = jax.tree.flatten(like)
        try:
            found = [_restored(saved[f"leaf{i}"], leaf) for i, leaf in enumerate(leaves)]
            tol = float(saved.get("tol", 0.0))
        except Exception as error:
            raise self._damaged(error) from error
        return jax.tree.unflatten(tree, found), history, tol

    def refuse(self, best: float, now: float) -> None:
        """Says that the function is not what it was.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"checkpoint: {self._folder} holds a run where fun was {best:.9g} at the best point, "
            f"but it is {now:.9g} there: fun, or what it reads, has changed. Give another folder, "
            "or delete this one."
        )

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(
            f"checkpoint: {self._path} is damaged ({type(error).__name__}: {error}): delete it, "
            "and the run begins anew, or give another folder."
        )

    def save(self, state: PyTree, history: np.ndarray, tol: float) -> None:
        """Writes state, history and tolerance in place of those before."""
        buffer = io.BytesIO()
        leaves = [np.asarray(key_bits(leaf)) for leaf in jax.tree.leaves(state)]
        named: dict[str, Any] = {f"leaf{i}": leaf for i, leaf in enumerate(leaves)}
        np.savez(buffer, identity=self._identity, history=history, tol=tol, **named)
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
    array = jnp.asarray(data.view(like.dtype) if data.dtype.kind == "V" else data)
    if (array.shape, array.dtype) != (jnp.shape(like), like.dtype):
        raise ValueError(f"{array.dtype}{array.shape} where {like.dtype}{jnp.shape(like)} is due")
    return array
