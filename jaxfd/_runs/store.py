"""The journal's file: an SQLite database, opened, guarded and explained.

Must know nothing of points: bytes in, bytes out. Every error that SQLite can give is
turned into one that names the file and says what to do.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxfd._system import JaxfdWarning, host_calls

_APPLICATION = 0x6A667864  # "jfxd"
_WAIT = 10.0  # seconds to wait for another program's lock
_LOOK = 0.1  # seconds that SQLite itself waits, deaf to Ctrl-C and not everywhere

_SCHEMA = """
CREATE TABLE IF NOT EXISTS layouts (
    id INTEGER PRIMARY KEY, name TEXT, version TEXT, spec TEXT, UNIQUE (name, version, spec)
);
CREATE TABLE IF NOT EXISTS data (digest BLOB PRIMARY KEY, bytes BLOB);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, key BLOB UNIQUE, layout INTEGER, x BLOB, dtypes TEXT, y BLOB,
    finished REAL
);
CREATE TABLE IF NOT EXISTS codes (
    name TEXT, version TEXT, python TEXT, parts TEXT, PRIMARY KEY (name, version, python)
);
"""


class Store:
    """A database file, opened when it is first used.

    Safe for threads, and for a process that was forked from another.

    Args:
        path: the file; its folder must exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self.openings = 0  # how often it was opened
        self._file: tuple[int, int] | None = None  # which file is open, whatever its name
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"journal {str(self.path)!r}: there is no folder {str(self.path.parent)!r}: make "
                "it, or name another."
            )
        if self.path.is_dir():
            raise IsADirectoryError(f"journal {str(self.path)!r} is a folder: name a file in it.")

    @contextlib.contextmanager
    def open(self, write: bool = True) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; errors inside are explained."""
        with self._lock, self._explained():
            if self._connection is not None and self._gone():
                self.close()
                warnings.warn(
                    f"journal {str(self.path)!r} was deleted or replaced while it was open: what "
                    "was written to it so far is lost, and the file of that name is begun anew.",
                    JaxfdWarning,
                    stacklevel=5,
                )
            if self._connection is None or self._process != os.getpid():
                self._connection = self._connect(write)
                self._process = os.getpid()
                self._file = self._identity()
                self.openings += 1
            yield self._connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything that is written inside is written, or nothing."""
        with self.open() as connection:
            try:
                _patiently(connection, "BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Closes the file; it is opened again when it is used."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        # Python 3.13 warns of connections that nobody closed. What was not begun has none.
        if getattr(self, "_connection", None) is not None:
            self.close()

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Explains what goes wrong where stored bytes are read.

        Raises:
            ValueError: they are not what was written.
        """
        try:
            yield
        except Exception as error:
            raise ValueError(
                f"journal {str(self.path)!r} is damaged: {what} cannot be read "
                f"({type(error).__name__}: {error}). Name another file, or restore a copy."
            ) from error

    def _identity(self) -> tuple[int, int] | None:
        """Which file lies under the path; None where there is none."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _gone(self) -> bool:
        return self._process == os.getpid() and self._identity() != self._file

    def _connect(self, write: bool) -> sqlite3.Connection:
        if not write and not self.path.exists():
            raise FileNotFoundError(f"there is no journal {str(self.path)!r}.")
        connection = self._connection_to(str(self.path))
        try:
            self._prepare(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            if write or _code(error) not in ("SQLITE_READONLY", "SQLITE_CANTOPEN"):
                raise
            # A file that cannot be written can still be read, where all of it is in that file.
            beside = self.path.with_name(self.path.name + "-wal")
            if beside.exists() and beside.stat().st_size:
                raise
            uri = self.path.as_uri()
            connection = self._connection_to(f"{uri}?mode=ro&immutable=1", uri=True)
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _connection_to(target: str, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = sqlite3.connect(
            target, timeout=_LOOK, isolation_level=None, check_same_thread=False, **options
        )
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Tables first: whoever makes the file writes both at once.
        (tables,) = _patiently(connection, "SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != _APPLICATION and (application or tables):
            raise ValueError(
                f"journal {str(self.path)!r} is a database of another program: name another file."
            )
        _patiently(connection, "PRAGMA journal_mode = WAL")
        # A row survives the death of the program; a power cut may cost the last ones, no more.
        connection.execute("PRAGMA synchronous = NORMAL")
        # The youngest table is the last one that is made.
        youngest = "SELECT count(*) FROM sqlite_master WHERE name = 'codes'"
        if application == _APPLICATION and connection.execute(youngest).fetchone() == (1,):
            return
        _patiently(connection, "BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code, name = _code(error), f"journal {str(self.path)!r}"
            kept = "What was written before is kept."
            if code == "SQLITE_FULL":
                raise OSError(
                    f"{name}: the disk is full. {kept} Make room and start again."
                ) from error
            if code in ("SQLITE_BUSY", "SQLITE_LOCKED"):
                raise TimeoutError(
                    f"{name} has been locked by another program for {_WAIT:g} s. {kept} Close that "
                    "program and start again."
                ) from error
            if code in ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"):
                raise PermissionError(
                    f"{name} cannot be written ({error}): allow it for the file and its folder, "
                    "or name another file."
                ) from error
            if code in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
                raise ValueError(
                    f"{name} is no SQLite database, or a damaged one ({error}): name another file; "
                    "the program `sqlite3` can recover rows with its command .recover."
                ) from error
            raise OSError(f"{name}: {error} ({code}). {kept}") from error


def _patiently(connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
    """Executes a statement as soon as the file is free."""
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            return connection.execute(statement)
        except sqlite3.OperationalError as error:
            if _code(error) != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
        host_calls.check()
        time.sleep(0.01)


def _code(error: sqlite3.Error) -> str:
    """The primary error code: SQLITE_READONLY for SQLITE_READONLY_DIRECTORY."""
    parts = getattr(error, "sqlite_errorname", "SQLITE_ERROR").split("_")
    return "_".join(parts[:2])
