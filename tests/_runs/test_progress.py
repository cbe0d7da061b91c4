"""Progress: what a function is told, what goes to the log, and the bar on a terminal."""

import itertools
import logging
import os
import re
import subprocess
import sys

import _simulators as simulators
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _bench import HEAD, SCALAR, Bench
from _executors import KINDS, executor
from _simulators import Fails, FailsInBatch, X

import jaxfd
from jaxfd._runs import progress as _progress


@pytest.fixture
def seen():
    return []


def box_of(fun, seen, **options):
    return jaxfd.blackbox(fun, SCALAR, progress=seen.append, **options)


class TestFunction:
    @pytest.mark.parametrize("run", [jax.value_and_grad, lambda f: jax.jit(jax.value_and_grad(f))])
    def test_once_for_each_point(self, seen, run):
        run(box_of(simulators.quadratic, seen))(X)
        assert [p.done for p in seen] == [1, 2, 3, 4, 5, 6, 7]
        assert {(p.name, p.planned, p.failed) for p in seen} == {("quadratic", 7, 0)}
        assert isinstance(seen[0], tuple)
        fields = ("name", "done", "planned", "failed", "seconds", "left", "unit")
        assert seen[0]._fields[:7] == fields
        assert seen[0].unit == "point"

    def test_time(self, seen):
        jax.grad(box_of(simulators.sleepy, seen))(X)
        seconds = [p.seconds for p in seen]
        assert seconds == sorted(seconds)
        for p in seen:
            assert p.seconds >= 0.1 * p.done
            assert p.left == pytest.approx(p.seconds / p.done * (7 - p.done))
        assert seen[-1].left == 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_with_an_executor(self, seen, kind):
        with executor(kind) as pool:
            jax.grad(box_of(simulators.quadratic, seen, executor=pool, name="wing"))(X)
        assert [p.done for p in seen] == [1, 2, 3, 4, 5, 6, 7]
        assert {(p.name, p.planned) for p in seen} == {("wing", 7)}

    def test_vectorised(self, seen):
        jax.grad(box_of(simulators.quadratic, seen, vectorized=True, chunk_size=3))(X)
        assert [(p.done, p.planned) for p in seen] == [(3, 7), (6, 7), (7, 7)]

    def test_every_batch_anew(self, seen):
        box = box_of(simulators.quadratic, seen)
        box(X)
        jax.vmap(box)(jnp.stack([X, X + 1]))
        assert [(p.done, p.planned) for p in seen] == [(1, 1), (1, 2), (2, 2)]

    def test_what_the_journal_holds_is_done(self, seen, tmp_path):
        bench = Bench(tmp_path)
        jaxfd.grad(bench.box(), method=jaxfd.Central(step=1e-3))(X)
        box = bench.box(progress=seen.append)
        jaxfd.grad(box, method=jaxfd.Central(4, step=1e-3))(X)
        assert [p.done for p in seen] == list(range(6, 13))
        assert {p.planned for p in seen} == {12}
        seen.clear()
        jaxfd.grad(box, method=jaxfd.Central(4, step=1e-3))(X)
        assert [(p.done, p.planned) for p in seen] == [(12, 12)]

    def test_the_same_point_twice_in_a_batch(self, seen, tmp_path):
        box = Bench(tmp_path).box(progress=seen.append)
        jax.vmap(box)(jnp.stack([X, X + 1, X]))
        assert [(p.done, p.planned) for p in seen] == [(2, 3), (3, 3)]

    @pytest.mark.parametrize("vectorized", [False, True], ids=["single", "vectorized"])
    def test_failures(self, seen, vectorized):
        fun = FailsInBatch() if vectorized else Fails()
        box = box_of(fun, seen, vectorized=vectorized, retries=1, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"1 of 7 points"):
            jax.grad(box)(X)
        for before, after in itertools.pairwise(seen):
            assert before.done < after.done
            assert before.failed <= after.failed
        assert [p.failed for p in seen if p.done == 7] == [1]
        assert seen[0].failed == 0

    def test_handled_failures_count_as_failures(self, seen):
        box = box_of(Fails(), seen, on_error=lambda x, error: simulators.quadratic(x))
        jax.grad(box)(X)
        assert (seen[-1].done, seen[-1].failed) == (7, 1)

    def test_until_it_fails(self, seen):
        with pytest.raises(ArithmeticError):
            jax.grad(box_of(Fails(), seen))(X)
        assert [p.done for p in seen] == [1, 2, 3, 4]

    def test_what_it_raises_is_raised(self):
        def enough(progress):
            raise LookupError("enough")

        with pytest.raises(LookupError, match="enough"):
            jax.grad(jaxfd.blackbox(simulators.quadratic, SCALAR, progress=enough))(X)

    def test_text(self):
        progress = _progress.Progress("wing", 3, 7, 1, 6.0, 8.0)
        assert str(progress) == "wing: 3 of 7 points, 1 failed, 8 s left"


class TestLog:
    """Where there is no terminal."""

    @pytest.fixture(autouse=True)
    def _long_ago(self, monkeypatch):
        monkeypatch.setattr(_progress._Log, "last", -np.inf)

    def test_lines(self, caplog, capfd, monkeypatch):
        monkeypatch.setattr(_progress, "_PAUSE", 0.0)
        caplog.set_level(logging.INFO, "jaxfd")
        jax.grad(jaxfd.blackbox(simulators.quadratic, SCALAR, progress=True))(X)
        lines = [(r.name, r.levelname, r.getMessage()) for r in caplog.records]
        assert len(lines) == 7
        assert lines[-1] == ("jaxfd", "INFO", "quadratic: 7 of 7 points, 0 s left")
        assert capfd.readouterr() == ("", "")

    def test_no_more_than_one_in_ten_seconds(self, caplog):
        caplog.set_level(logging.INFO, "jaxfd")
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, progress=True)
        for _ in range(3):
            jax.grad(box)(X)
        assert len([r for r in caplog.records if r.name == "jaxfd"]) == 1

    @pytest.mark.parametrize("progress", [None, False])
    def test_silent(self, caplog, progress):
        caplog.set_level(logging.INFO, "jaxfd")
        jax.grad(jaxfd.blackbox(simulators.quadratic, SCALAR, progress=progress))(X)
        assert not [r for r in caplog.records if r.name == "jaxfd"]


_BAR = f"""
{HEAD}
import jax, numpy as np, jaxfd, _simulators as simulators
fun = getattr(simulators, sys.argv[1])
box = jaxfd.blackbox(fun, jax.ShapeDtypeStruct((), np.float32), progress=True)
print(jax.jit(jax.grad(box))(simulators.X.astype(np.float32)))
"""
_WITHOUT_TQDM = """
import sys
sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None
sys.modules["ipykernel"] = sys
import jax, numpy as np, jaxfd
out = jax.ShapeDtypeStruct((), np.float32)
try:
    jaxfd.blackbox(lambda x: x, out, progress=True)(1.0)
except ImportError as error:
    print(error)
print(jaxfd.blackbox(lambda x: x, out, progress=lambda p: None)(1.0))
"""


class TestTerminal:
    def run(self, fun):
        """What a program writes: to its standard output, and to the terminal."""
        termios = pytest.importorskip("termios")
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        command = [sys.executable, "-W", "error", "-c", _BAR, fun]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True)
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # how Linux says that the other side was closed
            pass
        os.close(ours)
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0, shown
        return out, shown.decode()

    def test_bar(self):
        out, shown = self.run("sleepy")
        assert out == "[-4. -1.  4.]\n"
        assert "sleepy:" in shown
        assert "/7" in shown
        # It is gone afterwards: the last thing to do is to clear its line.
        assert shown.split("\r")[-2].strip() == shown.split("\r")[-1] == ""

    def test_no_bar_for_what_is_fast(self):
        assert self.run("quadratic") == ("[-4. -1.  4.]\n", "")


def test_without_tqdm():
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TQDM], capture_output=True, text=True, timeout=60
    )
    error, value = done.stdout.splitlines()
    assert "pip install 'jaxfd[progress]'" in error
    assert value == "1.0"


class TestFit:
    """A fit tells of the whole: its batches have no bars of their own."""

    def test_a_function_is_told_of_value_evaluations_and_batches(self, seen):
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, retries=1)
        result = jaxfd.optim.minimize(box, X, max_steps=3, progress=seen.append)
        last = seen[-1]
        assert (last.unit, last.done, last.planned) == ("step", 3, 3)
        assert last.value == result.value
        assert last.evaluations == result.num_evaluations
        assert 3 <= last.batches < last.evaluations
        assert last.left == 0
        assert re.search(
            r"3 of 3 steps, value .*, \d+ evaluations, \d+ batches, 0 s left", str(last)
        )

    def test_a_box_that_shows_progress_shows_that_of_its_fit(self, caplog, monkeypatch):
        monkeypatch.setattr(_progress, "_PAUSE", 0.0)
        caplog.set_level(logging.INFO, "jaxfd")
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, progress=True)
        jaxfd.optim.minimize(box, X, max_steps=3)
        lines = [record.getMessage() for record in caplog.records]
        # The value at the start comes before there is a fit.
        assert [line for line in lines if " points" in line][1:] == []
        assert lines[-1].startswith("quadratic: 3 of 3 steps, value ")

    def test_after_it_batches_are_told_of_again(self, seen):
        box = box_of(simulators.quadratic, seen)
        jaxfd.optim.minimize(box, X, max_steps=2)
        del seen[:]
        jax.grad(box)(X)
        assert [p.done for p in seen] == [1, 2, 3, 4, 5, 6, 7]
