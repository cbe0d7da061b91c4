"""A page of the journal: the runs of one function on arguments of one shape.

This room turns points into keys and bytes and back; the file is `store`'s. It must not know
how points are run.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax import tree_util

from jaxfd._runs.store import Store

# Arrays of this many bytes are stored once, however many points share them.
_LARGE = 4096
_DIGEST = 16
_EXACT = (str, bytes, int, float, complex, bool, type(None))


@dataclasses.dataclass(frozen=True)
class Entry:
    """A point on its way into the journal: its key, its stored arguments, and large arrays."""

    key: bytes
    x: bytes
    large: tuple[tuple[bytes, bytes], ...]


class Page:
    """The runs of one function on arguments of one shape, to be looked up and added to.

    Args:
        store: the file.
        name, version: the function.
        call: ``(args, kwargs)`` of one of the calls.
        names: names of positional arguments.
        out: the outputs of a call: names, dtypes and shapes.
        former: another name that its runs may be found under.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        version: str,
        call: tuple[tuple[Any, ...], dict[str, Any]],
        names: Sequence[str],
        out: Sequence[tuple[str, Any]],
        former: str | None = None,
    ) -> None:
        outputs = [
            {"name": where, "dtype": _text(np.dtype(leaf.dtype)), "shape": leaf.shape}
            for where, leaf in out
        ]
        inputs = _describe(*call, names)
        spec = json.dumps({"inputs": inputs, "outputs": outputs, "tree": _structure(*call)})
        self._store = store
        self._what = (name, version, spec)
        self._prefix = _hash(repr(self._what).encode())
        self._former = None if former is None else _hash(repr((former, version, spec)).encode())
        self._layout: int | None = None
        self._arrays = [i for i, leaf in enumerate(inputs) if leaf["dtype"]]
        self._shapes = [tuple(leaf.shape) for _, leaf in out]

    def entry(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entry:
        """The key of a call."""
        leaves = tree_util.tree_leaves((args, kwargs))
        parts, large = [], []
        for i in self._arrays:
            leaf = leaves[i]
            raw = leaf.tobytes() if isinstance(leaf, np.ndarray) else np.asarray(leaf).tobytes()
            if len(raw) >= _LARGE:
                digest = _hash(raw)
                large.append((digest, raw))
                raw = digest
            parts.append(raw)
        x = b"".join(parts)
        return Entry(_hash(self._prefix + x), x, tuple(large))

    def find(self, entries: Sequence[Entry]) -> dict[bytes, list[np.ndarray]]:
        """The results of those points that are there, by key."""
        found = self._results({entry.key: entry.key for entry in entries})
        if self._former is not None:
            missing = [entry for entry in entries if entry.key not in found]
            found |= self._results({_hash(self._former + e.x): e.key for e in missing})
        return found

    def _results(self, keys: dict[bytes, bytes]) -> dict[bytes, list[np.ndarray]]:
        """Stored results by the key they are asked by, given that under each key of the file."""
        found = {}
        with self._store.open() as connection:
            for chunk in _chunks(list(keys), 500):
                marks = ",".join("?" * len(chunk))
                rows = connection.execute(
                    f"SELECT key, dtypes, y FROM runs WHERE key IN ({marks})", chunk
                )
                for key, dtypes, y in rows:
                    with self._store.reading(f"a result of {self._what[0]}"):
                        found[keys[key]] = decode(dtypes, self._shapes, y)
        return found

    def add(self, finished: Sequence[tuple[Entry, Sequence[np.ndarray]]]) -> None:
        """Writes finished points."""
        now = time.time()
        rows = []
        large: list[tuple[bytes, bytes]] = []
        for entry, outputs in finished:
            dtypes = ",".join(_text(o.dtype) for o in outputs)
            y = b"".join([o.tobytes() for o in outputs])
            rows.append((entry.key, entry.x, dtypes, y, now))
            large += entry.large
        with self._store.transaction() as connection:
            if self._layout is None:
                self._layout = self._number(connection)
            if large:
                connection.executemany("INSERT OR IGNORE INTO data VALUES (?, ?)", large)
            connection.executemany(
                "INSERT OR IGNORE INTO runs (key, layout, x, dtypes, y, finished) "
                f"VALUES (?, {self._layout}, ?, ?, ?, ?)",
                rows,
            )

    def _number(self, connection: Any) -> int:
        connection.execute(
            "INSERT OR IGNORE INTO layouts (name, version, spec) VALUES (?, ?, ?)", self._what
        )
        (number,) = connection.execute(
            "SELECT id FROM layouts WHERE name = ? AND version = ? AND spec = ?", self._what
        ).fetchone()
        return int(number)


def _hash(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=_DIGEST).digest()


def _text(dtype: np.dtype) -> str:
    """A dtype as text; those that NumPy does not know itself, such as bfloat16, by name."""
    return dtype.name if dtype.kind == "V" else dtype.str


def _chunks(items: list[Any], size: int) -> Iterable[list[Any]]:
    iterator = iter(items)
    return iter(lambda: list(itertools.islice(iterator, size)), [])


def _describe(
    args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Name, dtype and shape of every leaf of a call; of what is no array, its exact text."""
    described = []
    for (side, first, *rest), leaf in tree_util.tree_flatten_with_path((args, kwargs))[0]:
        where = names[first.idx] if side.idx == 0 else first.key
        where += tree_util.keystr(tuple(rest))
        plain = isinstance(leaf, np.generic) or (
            isinstance(leaf, jax.Array)
            and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)
        )
        leaf = np.asarray(leaf) if plain else leaf
        if isinstance(leaf, np.ndarray) and not leaf.dtype.hasobject:
            described.append({"name": where, "dtype": _text(leaf.dtype), "shape": leaf.shape})
        elif (text := _exact(leaf)) is not None:
            described.append({"name": where, "dtype": None, "value": text})
        else:
            raise TypeError(
                f"journal cannot tell one {where} from another: it is a {type(leaf).__name__}, "
                "which has no exact text. Pass numbers, strings or arrays, or bind it to the "
                "function and give the box a name of its own."
            )
    return described


def _exact(value: Any) -> str | None:
    """A text that no other value has, where there is one."""
    kind = type(value)
    if kind in _EXACT:
        return f"{kind.__name__} {value!r}"
    if isinstance(value, enum.Enum):
        return f"{kind.__module__}.{kind.__qualname__}.{value.name}"
    if kind in (tuple, list):
        parts = [_exact(part) for part in value]
        return None if None in parts else f"{kind.__name__} {parts}"
    if kind is type:
        return f"{value.__module__}.{value.__qualname__}"
    return None


def _structure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The containers of a call as text."""

    def text(tree: Any) -> str:
        node = tree.node_data()
        if node is None:
            return "*" if tree.num_leaves else "-"
        kind, data = node
        exact = _exact(list(data) if kind in (dict, OrderedDict) else data)
        if exact is None:
            raise TypeError(
                f"journal cannot tell one {kind.__qualname__} from another, because what it holds "
                "besides arrays has no exact text: pass tuples, lists and dicts."
            )
        inner = ", ".join(text(child) for child in tree.children())
        return f"{kind.__module__}.{kind.__qualname__} {exact} ({inner})"

    return text(tree_util.tree_structure((args, kwargs)))


def decode(dtypes: str, shapes: Sequence[tuple[int, ...]], y: bytes) -> list[np.ndarray]:
    """Stored outputs as arrays."""
    outputs, start = [], 0
    for text, shape in zip(dtypes.split(",") if shapes else (), shapes, strict=True):
        dtype = np.dtype(text)
        count = int(np.prod(shape, dtype=np.int64))
        stop = start + count * dtype.itemsize
        outputs.append(_array(y[start:stop], dtype, shape))
        start = stop
    if start != len(y):
        raise ValueError(f"{len(y)} bytes where {start} are due")
    return outputs


def _array(raw: bytes, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
    return (np.frombuffer(raw, dtype) if raw else np.zeros(0, dtype)).reshape(shape)


def inputs_of(leaves: Sequence[dict[str, Any]], x: bytes, data: dict[bytes, bytes]) -> list[Any]:
    """Stored arguments as arrays."""
    arrays, start = [], 0
    for leaf in leaves:
        dtype = np.dtype(leaf["dtype"])
        size = int(np.prod(leaf["shape"], dtype=np.int64)) * dtype.itemsize
        length = size if size < _LARGE else _DIGEST
        raw = x[start : start + length]
        arrays.append(_array(raw if size < _LARGE else data[raw], dtype, leaf["shape"]))
        start += length
    return arrays
