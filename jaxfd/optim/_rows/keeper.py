"""Finished points on disk, so that a killed fit goes the same way again without evaluating any.

An algorithm that is told the same values asks for the same points: nothing of its own state needs
to be kept. Points of host functions are written one by one as they finish, those of functions that
JAX traces batch by batch. This room must not know what is fitted.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxfd._runs import ChangedError, Journal, Runner

# A batch: how many points, numbers each, results each, and a checksum of what follows.
_HEAD = struct.Struct("<qqqI")
# The first line of such a file: an identity.
_FIRST = re.compile(rb"[0-9a-f]{64}\n")

Rows = Float[np.ndarray, "m k"]


class KeptRows:
    """Values at points of one traced function, in a file that only grows.

    Args:
        path: the file.
        identity: tells the function from others.

    Raises:
        ValueError: the file is of another function, or damaged.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._known: dict[bytes, Float[np.ndarray, "k"]] = {}
        first = identity.encode() + b"\n"
        if not path.exists() or path.stat().st_size < len(first):
            self._write(first, "wb")
            return
        whole = path.read_bytes()
        if not _FIRST.match(whole):
            raise _damaged(path, "it begins with no identity")
        if not whole.startswith(first):
            raise _other(path.parent)
        at = len(first)
        while at + _HEAD.size <= len(whole):
            count, n, k, check = _HEAD.unpack_from(whole, at)
            size = 8 * count * (n + k)
            body = whole[at + _HEAD.size : at + _HEAD.size + size]
            if len(body) < size or zlib.crc32(body) != check:
                break
            numbers = np.frombuffer(body, np.float64)
            points = numbers[: count * n].reshape(count, n)
            for point, row in zip(points, numbers[count * n :].reshape(count, k), strict=True):
                self._known[point.tobytes()] = row
            at += _HEAD.size + size
        if at < len(whole):  # the program died while it wrote
            with path.open("r+b") as file:
                file.truncate(at)

    def __call__(self, points: Float[np.ndarray, "m n"], evaluate: Callable[[Any], Rows]) -> Rows:
        """Values at points; those that are not known are evaluated and written."""
        keys = [point.tobytes() for point in points]
        missing = [i for i, key in enumerate(keys) if key not in self._known]
        if missing:
            found = evaluate(points[missing])
            body = points[missing].tobytes() + np.ascontiguousarray(found, np.float64).tobytes()
            head = _HEAD.pack(len(missing), points.shape[1], found.shape[1], zlib.crc32(body))
            self._write(head + body, "ab")
            for i, row in zip(missing, found, strict=True):
                self._known[keys[i]] = row
        return np.array([self._known[key] for key in keys])

    def _write(self, raw: bytes, mode: str) -> None:
        with self._path.open(mode) as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())


class Keeper:
    """A folder where a fit keeps its points.

    Args:
        folder: the folder; it is made if need be.

    Raises:
        TypeError: it is no path.
        ValueError: there is a file in its place.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(f"checkpoint must be a folder, got {type(folder).__name__}.")
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(
                f"checkpoint must be a folder, but {self._folder} is, or is in, a file: give "
                "another name."
            ) from None

    def runner(self, runner: Runner, parts: dict[str, str]) -> Runner:
        """A runner that keeps its points here; one with a journal of its own keeps them there.

        Raises:
            ValueError: the folder is of another function, or damaged.
        """
        if runner.journal is not None:
            return runner
        path = self._folder / "points.sqlite"
        made = runner.keeping(Journal(path), parts)
        try:
            made.check_journal()
        except ChangedError as error:
            raise _other(self._folder) from error
        except ValueError as error:
            if error.__cause__ is None:
                raise
            raise _damaged(path, error.__cause__) from error
        return made

    def rows(self, identity: str) -> KeptRows:
        """Where a traced function keeps its points."""
        return KeptRows(self._folder / "batches.bin", identity)

    def first(self, call: str, run: Callable[[], Any], take: Callable[[Any], Any]) -> Any:
        """What a plain function returned at its start, from which its output is learnt.

        Args:
            call: what tells the call there from others, which have files of their own.
            run: runs it.
            take: takes a value that it returned before.

        Raises:
            ValueError: the file is damaged.
        """
        path = self._folder / f"first-{call}.pickle"
        if path.exists():
            try:
                kept = pickle.loads(path.read_bytes())
            except Exception as error:
                raise _damaged(path, error) from error
            return take(kept)
        value = run()
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        with draft.open("wb") as file:
            pickle.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        return value


def _damaged(path: Path, why: object) -> ValueError:
    name = f"{type(why).__name__}: " if isinstance(why, Exception) else ""
    return ValueError(
        f"checkpoint: {path} is damaged ({name}{why}): delete it, and what it held is evaluated "
        "again, or give another folder."
    )


def _other(folder: Path) -> ValueError:
    return ValueError(
        f"checkpoint: {folder} holds a fit of another function, or of what it was before it "
        "changed: give another folder, or delete this one."
    )
