"""Executors of every kind, for tests that want the same of all."""

import contextlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import loky

PROCESSES = ["spawn", "loky"]
KINDS = ["threads", *PROCESSES]


def make(kind, workers=2):
    """An executor."""
    if kind == "threads":
        return ThreadPoolExecutor(workers)
    if kind == "loky":
        return loky.ProcessPoolExecutor(workers)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(kind))


@contextlib.contextmanager
def executor(kind, workers=2):
    """An executor, shut down afterwards; None for "serial"."""
    if kind == "serial":
        yield None
        return
    with make(kind, workers) as pool:
        yield pool
