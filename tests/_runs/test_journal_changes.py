"""A journal and a function that changed: seen where it computes something else, and only there."""

import functools
import sqlite3

import jax
import numpy as np
import pytest
from _tools import run_python

import jaxfd
from jaxfd._runs.fingerprint import fingerprint

OUT = jax.ShapeDtypeStruct((), np.float64)


def function(source, name="f"):
    """A function of some source, as a module of its own would have it."""
    space = {"np": np, "__name__": "model"}
    exec(compile(source, "model.py", "exec"), space)
    return space[name]


def parts(source):
    return fingerprint(function(source))


PLAIN = "def f(x):\n    y = 2.0 * x\n    return y**2"


class TestFingerprint:
    @pytest.mark.parametrize(
        "source",
        [
            "\n# A comment.\ndef f(x):\n    y = (\n      2.0 * x  # here\n    )\n    return y**2",
            'def f(x):\n    """What it does."""\n    y = 2.0 * x\n    return y**2',
            "def f(x):\n    z = 2.0 * x\n    return z**2",
        ],
    )
    def test_form_is_no_part_of_it(self, source):
        assert parts(source) == parts(PLAIN)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (PLAIN, PLAIN.replace("**2", "**3")),
            ("K = 3.0\ndef f(x): return K * x", "K = 4.0\ndef f(x): return K * x"),
            ("D = np.ones(3)\ndef f(x): return D @ x", "D = np.ones(2)\ndef f(x): return D @ x"),
            ("P = {'k': 1}\ndef f(x): return P['k']", "P = {'k': 2}\ndef f(x): return P['k']"),
            ("def f(x, k=2): return k * x", "def f(x, k=3): return k * x"),
            (
                "def g(x): return x\ndef f(x): return g(x)",
                "def g(x): return -x\ndef f(x): return g(x)",
            ),
            (
                "def g(x): return [lambda: x]\ndef f(x): return g(x)",
                "def g(x): return [lambda: -x]\ndef f(x): return g(x)",
            ),
            (
                "def make(k): return lambda x: k * x\nf = make(2)",
                "def make(k): return lambda x: k * x\nf = make(3)",
            ),
        ],
    )
    def test_what_is_computed_is(self, one, other):
        assert parts(one) != parts(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("L = []\ndef f(x): L.append(x)", "L = [1.0]\ndef f(x): L.append(x)"),
            (
                "n = [0]\ndef f(x):\n    n[0] += 1\n    return x",
                "n = [7]\ndef f(x):\n    n[0] += 1\n    return x",
            ),
            (
                "n = 0\ndef f(x):\n    global n\n    n += 1\n    return x",
                "n = 7\ndef f(x):\n    global n\n    n += 1\n    return x",
            ),
            ("def f(x): return x in {'a', 'b'}", "def f(x): return x in {'b', 'a'}"),
            ("def f(x): return __file__", "__file__ = 'a'\ndef f(x): return __file__"),
        ],
    )
    def test_logs_and_places_are_not(self, one, other):
        assert parts(one) == parts(other)

    def test_objects_that_are_called(self):
        class Model:
            def __init__(self, k):
                self.k = k

            def __call__(self, x):
                return self.k * x

        assert fingerprint(Model(1.0)) == fingerprint(Model(1.0)) != fingerprint(Model(2.0))
        assert fingerprint(Model(1.0).__call__) != fingerprint(Model(2.0).__call__)
        add = functools.partial(np.add, 1.0)
        assert fingerprint(add) != fingerprint(functools.partial(np.add, 2.0))
        assert fingerprint(len) == fingerprint(np.sin) == {}

    def test_a_function_that_calls_itself(self):
        assert parts("def f(x): return f(x - 1) if x else 0")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


def value(source, path, name="model", **options):
    journal = jaxfd.Journal(path, **options)
    try:
        return float(jaxfd.blackbox(function(source), OUT, journal=journal, name=name)(3.0))
    finally:
        journal.close()


class TestJournal:
    def test_a_change_is_refused(self, path):
        assert value(PLAIN, path) == 36.0
        changed = PLAIN.replace("2.0", "3.0")
        with pytest.raises(ValueError, match=r"before it changed \(the code\).*version=.*changed="):
            value(changed, path)
        assert value(PLAIN, path) == 36.0
        assert value(changed, path, version="2") == 81.0
        assert value(changed, path, name="another") == 81.0

    def test_kept_values_belong_to_the_new_function(self, path):
        value(PLAIN, path)
        changed = PLAIN.replace("y**2", "y * y")
        assert value(changed.replace("2.0", "3.0"), path, changed="keep") == 36.0
        assert value(changed.replace("2.0", "3.0"), path) == 36.0
        with pytest.raises(ValueError, match="before it changed"):
            value(PLAIN, path)

    def test_says_what_changed(self, path):
        source = "K = 2.0\ndef g(x): return x\ndef f(x): return K * g(x)"
        value(source, path)
        with pytest.raises(ValueError, match=r"before it changed \(K, the code of g\)"):
            value(source.replace("2.0", "3.0").replace("x): return x", "x): return -x"), path)

    def test_an_old_journal_is_read(self, path):
        value(PLAIN, path)
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE codes")
        connection.close()
        assert value(PLAIN.replace("2.0", "3.0"), path) == 36.0
        with pytest.raises(ValueError, match="before it changed"):
            value(PLAIN, path)

    def test_changed_is_checked(self, path):
        with pytest.raises(ValueError, match="changed must be 'raise' or 'keep'"):
            jaxfd.Journal(path, changed="ignore")
        assert "changed='keep'" in repr(jaxfd.Journal(path, changed="keep"))


SCRIPT = """
import jax, numpy as np, jaxfd, sys
calls = []

def model(x):
    calls.append(1)
    return x**2

if __name__ == "__main__":
    box = jaxfd.blackbox(model, jax.ShapeDtypeStruct((), np.float32), journal=sys.argv[1])
    print(float(box(3.0)), len(calls))
"""
RUN = "import runpy, sys; sys.argv = [{0!r}, {1!r}]; runpy.run_path({0!r}, run_name='__main__')"


class TestScript:
    def run(self, script, path):
        import subprocess
        import sys

        script.parent.mkdir(exist_ok=True)
        script.write_text(SCRIPT)
        command = [sys.executable, str(script), str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def test_a_moved_script_keeps_its_hits(self, path, tmp_path):
        assert self.run(tmp_path / "a" / "run.py", path) == "9.0 1\n"
        assert self.run(tmp_path / "b" / "run.py", path) == "9.0 0\n"
        assert jaxfd.Journal(path).runs()[0].name == "run.model"
        # Old journals hold the folder too, and the key is made of that.
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path / 'a')!r}); import run, jax, jaxfd\n"
            f"out = jax.ShapeDtypeStruct((), 'float32'); old = {str(path) + '.old'!r}\n"
            "box = jaxfd.blackbox(run.model, out, journal=old, name='/gone/run.py.model')\n"
            "box(3.0)"
        )
        run_python(code)
        assert self.run(tmp_path / "c" / "run.py", str(path) + ".old") == "9.0 0\n"


class TestFile:
    def test_deleted_while_it_is_open(self, path):
        box = jaxfd.blackbox(function(PLAIN), OUT, journal=path, name="model")
        assert box(3.0) == 36.0
        path.unlink()
        with pytest.warns(RuntimeWarning, match=r"runs.sqlite' was deleted or replaced"):
            assert box(3.0) == 36.0
        assert len(jaxfd.Journal(path)) == 1

    @pytest.mark.parametrize(
        "damage",
        ["y = x'00'", "y = 'text'", "dtypes = '?!'", "x = x'00'"],
    )
    def test_damaged_rows_name_the_file(self, path, damage):
        value(PLAIN, path)
        with sqlite3.connect(path) as connection:
            connection.execute(f"UPDATE runs SET {damage}")
        connection.close()
        wanted = pytest.raises(ValueError, match=r"runs.sqlite' is damaged: .*model.* cannot be")
        with wanted:
            jaxfd.Journal(path).runs()
        if not damage.startswith("x"):
            with wanted:
                value(PLAIN, path)

    def test_no_cell_is_a_formula(self, path, tmp_path):
        box = jaxfd.blackbox(lambda p: p["=cmd()"] ** 3, OUT, journal=path, name="@SUM(A1)")
        box({"=cmd()": -3.0})
        jaxfd.Journal(path).to_csv(tmp_path / "runs.csv")
        cells = (tmp_path / "runs.csv").read_text().replace("\n", ",").split(",")
        assert "'@SUM(A1)" in cells
        assert not [c for c in cells if c[:1] in "=+@" and c]
        assert "-27.0" in cells
