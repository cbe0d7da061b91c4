"""The journal's file: how it is read, and what happens where it cannot be read or written."""

import csv
import os
import re
import shutil
import sqlite3
import subprocess

import _simulators as simulators
import jax
import numpy as np
import pytest
from _bench import SCALAR, Bench, program
from _simulators import Fails, X

import jaxfd
from jaxfd._runs import store as _store

PAIR = jax.ShapeDtypeStruct((2,), np.float64)
nobody = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="only root can become somebody who may not"
)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


class TestName:
    def test_of_a_function_at_the_top_of_a_module(self, bench):
        jaxfd.blackbox(simulators.quadratic, SCALAR, journal=bench.path)(X)
        (runs,) = jaxfd.Journal(bench.path).runs()
        assert runs.name == "_simulators.quadratic"

    def test_refused_without(self, bench):
        factor = 2.0

        def closure(x):
            return factor * x

        for fun in (lambda x: x, closure, Fails(), np.sum, bench.box):
            with pytest.raises(ValueError, match=r"^journal needs a name for fun.*name="):
                jaxfd.blackbox(fun, SCALAR, journal=bench.path)

    def test_an_argument_without_an_exact_text(self, bench):
        box = jaxfd.blackbox(lambda x, o: x, SCALAR, journal=bench.path, name="f")
        with pytest.raises(TypeError, match=r"^journal cannot tell one o from another.*object"):
            box(1.0, object())


class TestReading:
    def test_runs(self, bench):
        jax.jacrev(bench.box(simulators.curve, PAIR))(X)
        bench.box(version="2")(X)
        bench.box(name="g")(X)
        journal = jaxfd.Journal(bench.path)
        assert len(journal) == 9
        first, second, third = journal.runs()
        assert [len(runs) for runs in (first, second, third)] == [7, 1, 1]
        assert [runs.version for runs in (first, second, third)] == ["", "2", ""]
        assert first.inputs["x"].shape == (7, 3)
        np.testing.assert_array_equal(first.inputs["x"][0], X)
        np.testing.assert_array_equal(first.outputs["out"], simulators.curve(first.inputs["x"]))
        assert np.all(np.diff(first.finished) >= np.timedelta64(0, "s"))
        now = np.datetime64("now") + np.timedelta64(1, "s")
        assert now - np.timedelta64(120, "s") < first.finished[0] < now
        assert [runs.name for runs in journal.runs("g")] == ["g"]
        with pytest.raises(ValueError, match=r"no such.*holds"):
            journal.runs("no such")

    def test_texts(self, bench):
        jax.jacrev(bench.box(simulators.curve, PAIR, version="2"))(X)
        journal = jaxfd.Journal(bench.path, version="2")
        (runs,) = journal.runs()
        assert str(runs) == "f version 2: 7 runs of (x[3]) -> (out[2])"
        assert repr(journal) == f"jaxfd.Journal({str(bench.path)!r}, version='2')"
        assert journal.path == bench.path

    def test_csv(self, bench, tmp_path):
        jax.jacrev(bench.box(simulators.curve, PAIR, version="2"))(X)
        bench.box(lambda a: a["k"] * 2, name="g")
        jaxfd.blackbox(lambda a: a["k"] * 2, SCALAR, journal=bench.path, name="g")({"k": 0.1})
        journal = jaxfd.Journal(bench.path)
        assert journal.to_csv(tmp_path / "runs.csv") == 8
        with open(tmp_path / "runs.csv", newline="") as file:
            lines = list(csv.DictReader(file))
        assert [line["name"] for line in lines] == ["f"] * 7 + ["g"]
        for line in lines[:7]:
            x = np.array([float(line[f"x[{i}]"]) for i in range(3)])
            y = [float(line[f"out[{i}]"]) for i in range(2)]
            np.testing.assert_array_equal(y, simulators.curve(x))
        assert (lines[7]["a['k']"], lines[7]["out"], lines[7]["x[0]"]) == ("0.1", "0.2", "")
        assert journal.to_csv(tmp_path / "g.csv", "g") == 1

    def test_closed_and_used_again(self, bench):
        journal = jaxfd.Journal(bench.path)
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, journal=journal)
        box(X)
        journal.close()
        box(X + 1)
        journal.close()
        assert len(journal) == 2


class TestNoJournal:
    def test_missing_file(self, bench):
        journal = jaxfd.Journal(bench.path)
        for read in (journal.runs, journal.__len__, lambda: journal.to_csv("never.csv")):
            with pytest.raises(FileNotFoundError, match=re.escape(str(bench.path))):
                read()
        assert not bench.path.exists()

    def test_missing_folder(self, tmp_path):
        path = tmp_path / "no" / "runs.sqlite"
        with pytest.raises(FileNotFoundError, match=r"journal '.*/no/runs.sqlite'.*no folder"):
            jaxfd.blackbox(simulators.quadratic, SCALAR, journal=path)

    def test_folder(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
            jaxfd.Journal(tmp_path)

    def test_no_path(self):
        with pytest.raises(TypeError, match="journal must be a path"):
            jaxfd.Journal(3)

    @pytest.mark.parametrize(
        "text", [b"no database at all\n" * 300, b"my notes\n", b"SQLite format 3\0" * 9]
    )
    def test_another_file(self, bench, text):
        bench.path.write_bytes(text)
        for use in (lambda: bench.box()(X), lambda: len(jaxfd.Journal(bench.path))):
            with pytest.raises(ValueError, match=r"is no SQLite database, or a damaged one"):
                use()
        assert bench.path.read_bytes() == text
        assert bench.evaluated() == 0

    def test_damaged(self, bench):
        box = bench.box(name="f" * 50)
        for i in range(300):
            box(X + i)
        bench.evaluated()
        connection = sqlite3.connect(bench.path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
        copy = bench.path.with_name("copy.sqlite")
        data = bytearray(bench.path.read_bytes())
        data[4096:] = b"\xa5" * (len(data) - 4096)
        copy.write_bytes(data)
        with pytest.raises(ValueError, match=r"damaged.*\.recover"):
            jaxfd.Journal(copy).runs()

    def test_database_of_another_program(self, bench):
        with sqlite3.connect(bench.path) as connection:
            connection.execute("CREATE TABLE mine (x)")
        connection.close()
        before = bench.path.read_bytes()
        for use in (lambda: bench.box()(X), lambda: len(jaxfd.Journal(bench.path))):
            with pytest.raises(ValueError, match="is a database of another program"):
                use()
        assert bench.path.read_bytes() == before

    def test_empty_file_is_a_journal_without_runs(self, bench):
        bench.path.touch()
        assert len(jaxfd.Journal(bench.path)) == 0
        bench.box()(X)
        assert len(jaxfd.Journal(bench.path)) == 1


class TestLocked:
    def test_by_another_program(self, bench, monkeypatch):
        monkeypatch.setattr(_store, "_WAIT", 0.05)
        box = bench.box()
        box(X)
        other = sqlite3.connect(bench.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TimeoutError, match=r"locked by another program.*kept"):
            box(X + 1)
        other.execute("ROLLBACK")
        other.close()
        bench.evaluated()
        box(X)
        box(X + 1)
        assert bench.evaluated() == 1
        assert len(jaxfd.Journal(bench.path)) == 2

    def test_before_it_was_opened(self, bench, monkeypatch):
        monkeypatch.setattr(_store, "_WAIT", 0.05)
        other = sqlite3.connect(bench.path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TimeoutError, match=r"locked by another program for 0\.05 s"):
            bench.box()(X)
        assert bench.evaluated() == 0
        other.execute("ROLLBACK")
        other.close()
        bench.box()(X)
        assert len(jaxfd.Journal(bench.path)) == 1


class TestFullDisk:
    def check(self, bench, box, journal, make_room):
        """Fills the disk in the middle of a gradient: rows stay, and later it goes on."""
        before = len(journal)
        more = X + np.arange(1.0, 10_000.0)[:, None]
        with pytest.raises(OSError, match=r"the disk is full.*kept") as caught:
            jax.vmap(box)(more)
        assert str(bench.path) in str(caught.value)
        # All but the point that could not be written, and it alone, are there.
        kept = len(journal)
        assert kept == bench.evaluated() - 1 > before
        make_room()
        values = jax.vmap(box)(more[:kept])
        assert bench.evaluated() == 1
        assert len(journal) == kept + 1
        np.testing.assert_array_equal(values, simulators.quadratic(more[:kept]))

    def test_no_more_pages(self, bench):
        journal = jaxfd.Journal(bench.path)
        box = jaxfd.blackbox(bench.box().__wrapped__, SCALAR, journal=journal, name="f")
        box(X)
        with journal.store.open() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + 2}")

        def make_room():
            with journal.store.open() as connection:
                connection.execute("PRAGMA max_page_count = 1000000")

        self.check(bench, box, journal, make_room)

    @nobody
    def test_really(self, tmp_path):
        folder, log = tmp_path / "small", tmp_path / "log"
        folder.mkdir()
        mount = shutil.which("mount")
        options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
        if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        try:
            bench = Bench(folder, log)
            journal = jaxfd.Journal(bench.path)
            box = jaxfd.blackbox(bench.box().__wrapped__, SCALAR, journal=journal, name="f")
            box(X)
            again = ["-o", "remount,size=4m", str(folder)]
            self.check(bench, box, journal, lambda: subprocess.run([mount, *again], check=True))
            journal.close()
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)


_NOBODY = """
import os, sys
import jax, numpy as np, jaxfd
from _simulators import X, quadratic
jax.config.update("jax_enable_x64", True)
out = jax.ShapeDtypeStruct((), np.float64)
path, other = sys.argv[1:]
# What is imported late is imported now: it may lie where nobody may read.
jaxfd.blackbox(quadratic, out, journal=other, name="f")(X)
jaxfd.Journal(other).runs()
os.setgid(65534); os.setuid(65534)
print(len(jaxfd.Journal(path)), len(jaxfd.Journal(path).runs()))
box = jaxfd.blackbox(quadratic, out, journal=path, name="f")
try:
    box(X + 1)
except PermissionError as error:
    print(error)
"""


@nobody
class TestReadOnly:
    @pytest.mark.parametrize("modes", [(0o444, 0o555), (0o444, 0o777), (0o666, 0o555)], ids=str)
    def test_can_be_read_and_not_written(self, tmp_path, modes):
        folder = tmp_path / "theirs"
        folder.mkdir()
        bench = Bench(folder, tmp_path / "log")
        journal = jaxfd.Journal(bench.path)
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, journal=journal, name="f")
        box(X)
        journal.close()
        assert os.listdir(folder) == ["runs.sqlite"]
        bench.path.chmod(modes[0])
        folder.chmod(modes[1])
        for parent in (tmp_path, *tmp_path.parents):
            if parent.owner() == "root" and not parent.stat().st_mode & 0o005:
                parent.chmod(0o755)
        done = program(_NOBODY, bench.path, tmp_path / "other.sqlite")
        out, errors = done.communicate(timeout=60)
        assert done.returncode == 0, errors
        lines = out.splitlines()
        assert lines[0] == "1 1"
        assert re.search(
            r"journal '.*' cannot be written .*allow it for the file and its", lines[1]
        )
