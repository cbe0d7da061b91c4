"""A run on disk, so that a killed program goes on where it was.

A file is either the old one or the new one, whenever the program dies, and it knows what it is a
run of. This room must not know what a run holds.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxfd._jaxpr import every_constant, every_eqn
from jaxfd._primitives import host_call_p
from jaxfd.optim._state import key_bits, key_of


def identity_of(closed: Any, known: Any, name: str, parts: Iterable[Mapping[str, str]] = ()) -> str:
    """What tells one problem from another.

    That is a traced program with its constants, the compiled code of host functions, and what the
    run begins with.

    Args:
        closed: the program, a closed jaxpr; None for a function on the host.
        known: what there is at the start without any evaluation, which noise may change.
        name: the function's.
        parts: what tells host functions besides those of the program.
    """
    digest = hashlib.sha256(name.encode())
    constants: list[Any] = []
    parts = list(parts)
    if closed is not None:
        # Addresses of host functions differ from process to process.
        digest.update(re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)).encode())
        constants = list(every_constant(closed))
        called = [e.params["callback"] for e in every_eqn(closed) if e.primitive is host_call_p]
        parts += [getattr(callback, "parts", {}) for callback in called]
    for each in parts:
        digest.update(repr(sorted(each.items())).encode())
    for leaf in (*constants, *jax.tree.leaves(known)):
        array = np.asarray(key_bits(leaf))
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


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
    if isinstance(like, (bool, int, float)):
        if data.shape != ():
            raise ValueError(f"{data.shape} where one number is due")
        return type(like)(data)
    if isinstance(like, np.ndarray):  # what runs on the host keeps all digits
        # What is empty at the start may have grown.
        if data.dtype != like.dtype or (like.size and data.shape != like.shape):
            raise ValueError(f"{data.dtype}{data.shape} where {like.dtype}{like.shape} is due")
        return data
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return key_of(jnp.asarray(data), like)
    # NumPy forgets the names of dtypes that are not its own.
    array = jnp.asarray(data.view(like.dtype) if data.dtype.kind == "V" else data)
    if (array.shape, array.dtype) != (jnp.shape(like), like.dtype):
        raise ValueError(f"{array.dtype}{array.shape} where {like.dtype}{jnp.shape(like)} is due")
    return array
