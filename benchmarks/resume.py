"""Is anything lost when a fit is killed? ``python -m benchmarks.resume``.

A fit with a journal runs in a child process, is killed by ``kill -9`` at a random moment, and
is started again. It must end with the parameters of an unbroken fit, bit for bit, and no point
that was in the journal may be evaluated again.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxfd

_STEPS, _N = 12, 8
_ROOT = Path(__file__).parent.parent


class _Simulator:
    """Takes 3 ms and writes down where it was evaluated."""

    def __init__(self, record: Path) -> None:
        self._file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, x: np.ndarray) -> float:
        os.write(self._file, x.tobytes())
        time.sleep(0.003)
        return float(np.sum((x - np.arange(_N)) ** 2) + np.sin(x[0] * x[1]))


def fit(folder: Path, threads: int) -> None:
    """The child's work: a fit, whose result is written to a file."""
    with ThreadPoolExecutor(max(1, threads)) as pool:
        box = jaxfd.blackbox(
            _Simulator(folder / "record"),
            jax.ShapeDtypeStruct((), np.float32),
            executor=pool if threads else None,
            journal=folder / "runs.sqlite",
            name="simulator",
        )
        optimizer = optax.adam(0.1)

        @jax.jit
        def step(x: jax.Array, state: optax.OptState) -> tuple[jax.Array, optax.OptState]:
            updates, state = optimizer.update(jax.grad(box)(x), state)
            return optax.apply_updates(x, updates), state

        x = jnp.zeros(_N)
        state = optimizer.init(x)
        print("started", flush=True)
        for _ in range(_STEPS):
            x, state = step(x, state)
        (folder / "result").write_bytes(np.asarray(x).tobytes())


def _start(folder: Path, threads: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.resume", "--fit", str(folder), str(threads)]
    child = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    if child.stdout.readline() != "started\n":
        raise RuntimeError("the fit did not start")
    return child


def _points(record: Path) -> list[bytes]:
    data, size = record.read_bytes(), 8 * _N
    return [data[i : i + size] for i in range(0, len(data), size)]


def _finish(folder: Path, threads: int) -> tuple[bytes, float]:
    child = _start(folder, threads)
    start = time.monotonic()
    if child.wait(timeout=120):
        raise RuntimeError(f"the fit ended with {child.returncode}")
    return (folder / "result").read_bytes(), time.monotonic() - start


def kill_and_resume(kills: int, threads: int, seed: int = 0) -> tuple[int, int, int]:
    """Kills a fit again and again.

    Args:
        kills: how often.
        threads: threads that run the points; 0 for none.
        seed: of the moments.

    Returns:
        How often the result differed, how many points were evaluated though they were in the
        journal, and how many were in the journal when a fit was killed, over all.
    """
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted, seconds = _finish(folder, threads)
    different = again = kept = 0
    for _ in range(kills):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            child = _start(folder, threads)
            time.sleep(chance.uniform(0.0, seconds))
            child.kill()
            child.wait()
            finished: set[bytes] = set()
            if (folder / "runs.sqlite").exists():
                with_rows = jaxfd.Journal(folder / "runs.sqlite")
                for runs in with_rows.runs():
                    finished |= {x.tobytes() for x in runs.inputs["x"]}
                with_rows.close()
            kept += len(finished)
            before = len(_points(folder / "record"))
            result, _ = _finish(folder, threads)
            different += result != wanted
            again += sum(point in finished for point in _points(folder / "record")[before:])
    return different, again, kept


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.fit:
        fit(Path(options.fit[0]), int(options.fit[1]))
        return 0
    bad = 0
    for threads in (0, 4):
        different, again, kept = kill_and_resume(options.kills, threads)
        bad += different + again
        print(
            f"{options.kills} kills, {threads or 'no'} threads, {kept} points in the journal when "
            f"killed: {different} other results, {again} points evaluated again   goal 0, 0"
            + ("   MISSED" if different + again else ""),
            flush=True,
        )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
