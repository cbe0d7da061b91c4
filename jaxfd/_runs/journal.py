"""The journal as its user sees it: a file of finished points, read as arrays.

What is written, and how a point is found again, is `page`'s; it must not know how points are run.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import functools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxfd._runs.fingerprint import PYTHON
from jaxfd._runs.page import decode, inputs_of
from jaxfd._runs.store import Store


@dataclasses.dataclass(frozen=True, repr=False)
class Runs:
    """Runs of one function on arguments of one shape.

    Attributes:
        name: the function's name.
        version: the version it was given.
        inputs: for each array among the arguments, the values: shape ``(runs, *shape)``.
        outputs: the same for the results.
        finished: when each run ended, in universal time.

    Example:
        >>> import numpy as np, jaxfd
        >>> x, y = {"x": np.zeros((2, 3))}, {"out": np.zeros(2)}
        >>> print(jaxfd.Runs("model", "", x, y, np.array(["2026-01-01", "2026-01-02"], "M8[s]")))
        model: 2 runs of (x[3]) -> (out)
    """

    name: str
    version: str
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    finished: np.ndarray

    def __len__(self) -> int:
        return len(self.finished)

    def __repr__(self) -> str:
        def shapes(arrays: dict[str, np.ndarray]) -> str:
            return ", ".join(f"{k}{list(v.shape[1:]) or ''}" for k, v in arrays.items())

        version = f" version {self.version}" if self.version else ""
        inputs, outputs = shapes(self.inputs), shapes(self.outputs)
        return f"{self.name}{version}: {len(self)} runs of ({inputs}) -> ({outputs})"

    def to_dict(self) -> dict[str, np.ndarray]:
        """The runs as a table: ``pandas.DataFrame(runs.to_dict())``.

        Returns:
            A column of shape ``(runs,)`` for each number of arguments and results, under its name
            (``x[0]``), and one for ``finished``. An argument that is called as a result, or as
            another column, has ``x.`` before its name.
        """
        taken = {"name", "version", "finished", *self.outputs}
        inputs = {f"x.{k}" if k in taken else k: v for k, v in self.inputs.items()}
        table = {}
        for key, values in {**inputs, **self.outputs}.items():
            for index in np.ndindex(values.shape[1:]):
                where = key + (f"[{','.join(map(str, index))}]" if index else "")
                table[where] = values[(slice(None), *index)]
        return {**table, "finished": self.finished}


class ChangedError(ValueError):
    """A journal holds runs of what the function was before it changed."""


class Journal:
    """Finished evaluations of black boxes, in one SQLite file.

    A point that is in the journal is not evaluated again: not in this run, nor in the next, nor
    from another process. Floats are compared bit for bit. Rows are written as points finish and
    survive the death of the program. The file belongs on a local disk.

    Args:
        path: the file. Its folder must exist; the file is made when the first point is written.
        version: part of every key that is written or looked up. Give another one whenever what
            the function computes changes.
        changed: what to do where a function is not the one whose runs there are: ``"raise"``, or
            ``"keep"`` them, because it computes the same. Seen are its compiled code (no comments,
            no layout, no docstrings), that of functions of its module and methods of its own
            object that it calls, its defaults and a partial's arguments, and the numbers, texts,
            arrays and plain containers that it reads from outside of itself or from its object.
            Not seen are code in other modules, methods of other objects, data files, executables,
            and what the function itself changes.

    Raises:
        FileNotFoundError: there is no such folder, or on reading, no such file.
        IsADirectoryError: the path is a folder.
        PermissionError: the file cannot be written.
        TimeoutError: another program keeps it locked.
        OSError: the disk is full.
        ValueError: the file is damaged, or no journal; at a call, the function has changed.

    Example:
        >>> import jax, jax.numpy as jnp, jaxfd, pathlib, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> journal = jaxfd.Journal(pathlib.Path(folder.name) / "runs.sqlite")
        >>> out = jax.ShapeDtypeStruct((), jnp.float32)
        >>> model = jaxfd.blackbox(lambda x: x**3, out, journal=journal, name="cube")
        >>> print(jax.grad(model)(2.0), len(journal))
        12.0 3
        >>> (runs,) = journal.runs()
        >>> print(runs)
        cube: 3 runs of (x) -> (out)
        >>> print(runs.outputs["out"].round(3))
        [8. 8. 8.]
        >>> journal.close()
        >>> folder.cleanup()
    """

    def __init__(
        self, path: str | os.PathLike[str], *, version: str = "", changed: str = "raise"
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(
                f"journal must be a path or a jaxfd.Journal, got {type(path).__name__}."
            )
        if changed not in ("raise", "keep"):
            raise ValueError(f"changed must be 'raise' or 'keep', got {changed!r}.")
        self.store = Store(path)
        self.version = str(version)
        self._changed = changed

    @property
    def path(self) -> Path:
        """The file."""
        return self.store.path

    def __repr__(self) -> str:
        version = f", version={self.version!r}" if self.version else ""
        changed = f", changed={self._changed!r}" if self._changed != "raise" else ""
        return f"jaxfd.Journal({str(self.path)!r}{version}{changed})"

    def __reduce__(self) -> tuple[Any, ...]:
        made = functools.partial(Journal, version=self.version, changed=self._changed)
        return made, (str(self.path),)

    def __len__(self) -> int:
        """The number of runs, of all functions and versions."""
        with self.store.open(write=False) as connection:
            return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])

    def check(self, name: str, parts: dict[str, str]) -> None:
        """Compares a function with the one whose runs there are, and remembers it.

        Args:
            name: the function.
            parts: its `fingerprint`.

        Raises:
            ChangedError: it is another one.
        """
        key = (name, self.version, PYTHON)
        where = "WHERE name = ? AND version = ? AND python = ?"
        with self.store.transaction() as connection:
            row = connection.execute(f"SELECT parts FROM codes {where}", key).fetchone()
            if row is not None:
                with self.store.reading(f"the code of {name}"):
                    before = dict(json.loads(row[0]))
                other = sorted(k for k in {*before, *parts} if before.get(k) != parts.get(k))
                if other and self._changed == "raise":
                    raise ChangedError(
                        f"journal {str(self.path)!r} holds runs of {name} before it changed "
                        f"({', '.join(other[:5])}). If it computes something else now, give "
                        f"jaxfd.Journal(path, version=...) another version than {self.version!r}; "
                        'if it does not, jaxfd.Journal(path, changed="keep") takes the old values.'
                    )
                if not other:
                    return
            connection.execute(
                "INSERT OR REPLACE INTO codes VALUES (?, ?, ?, ?)", (*key, json.dumps(parts))
            )

    def former(self, ending: str | None) -> str | None:
        """The name under which old journals hold the runs of a function of the main program.

        Args:
            ending: what the name ends with, after a folder; None for other functions.

        Returns:
            The name; None where there is none, or more than one.
        """
        if ending is None:
            return None
        with self.store.open() as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM layouts")}
        found = [n for n in names if n.endswith(("/" + ending, "\\" + ending))]
        return found[0] if len(found) == 1 else None

    def close(self) -> None:
        """Closes the file; it is opened again when it is used."""
        self.store.close()

    def runs(self, name: str | None = None) -> list[Runs]:
        """All runs as arrays, in the order in which they finished.

        Args:
            name: the function, as `blackbox` was told or by default ``module.function``; None for
                all.

        Returns:
            One `Runs` for each function, version and shape of arguments.
        """
        found = []
        for group in self._read():
            with self.store.reading(f"the runs of {group[0]}"):
                found.append(_stack(*group))
        names = sorted({runs.name for runs in found})
        if name is not None and name not in names:
            raise ValueError(f"name {name!r} is not in {self!r}: it holds {names}.")
        return [runs for runs in found if name in (None, runs.name)]

    def to_csv(self, path: str | os.PathLike[str], name: str | None = None) -> int:
        """Writes all runs to a CSV file, one line each, one column for each number.

        Args:
            path: the file to write.
            name: the function; None for all.

        Returns:
            The number of runs.
        """
        lines, columns = [], ["name", "version", "finished"]
        for runs in self.runs(name):
            table = runs.to_dict()
            finished = table.pop("finished")
            for i in range(len(runs)):
                line = {"name": runs.name, "version": runs.version, "finished": finished[i]}
                lines.append({**line, **{where: row[i].item() for where, row in table.items()}})
        for line in lines:
            columns += [column for column in line if column not in columns]
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([_cell(column) for column in columns])
            writer.writerows(
                [[_cell(line.get(column, "")) for column in columns] for line in lines]
            )
        return len(lines)

    def _read(self) -> Iterable[tuple[Any, ...]]:
        with self.store.open(write=False) as connection:
            data = dict(connection.execute("SELECT digest, bytes FROM data"))
            layouts = connection.execute("SELECT id, name, version, spec FROM layouts ORDER BY id")
            for number, owner, version, spec in layouts.fetchall():
                rows = connection.execute(
                    "SELECT x, dtypes, y, finished FROM runs WHERE layout = ? ORDER BY id",
                    (number,),
                ).fetchall()
                if rows:
                    yield owner, version, spec, rows, data


def _cell(value: Any) -> Any:
    """A cell of a table; text that a spreadsheet would run as a formula is marked as text."""
    risky = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{value}" if risky else value


def _stack(
    name: str,
    version: str,
    text: str,
    rows: list[tuple[Any, ...]],
    data: dict[bytes, bytes],
) -> Runs:
    spec = json.loads(text)
    arrays = [leaf for leaf in spec["inputs"] if leaf["dtype"]]
    inputs = zip(*(inputs_of(arrays, x, data) for x, *_ in rows), strict=True)
    shapes = [tuple(leaf["shape"]) for leaf in spec["outputs"]]
    results = [decode(dtypes, shapes, y) for _, dtypes, y, _ in rows]
    finished = [
        datetime.datetime.fromtimestamp(when, datetime.UTC).replace(tzinfo=None)
        for *_, when in rows
    ]
    return Runs(
        name,
        version,
        {leaf["name"]: np.stack(c) for leaf, c in zip(arrays, inputs, strict=True)},
        {
            leaf["name"]: np.stack(c)
            for leaf, c in zip(spec["outputs"], zip(*results, strict=True), strict=True)
        },
        np.array(finished, "datetime64[us]"),
    )
