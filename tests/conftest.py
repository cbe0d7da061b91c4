"""Every test runs with 64-bit numbers at hand and with strict dtype promotion.

Both are set around each test and not for the process, so that the doctests of the
library, which share it, see JAX as its users do.
"""

import gc
import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64
from hypothesis import settings

settings.register_profile(
    "jaxfd", max_examples=40, deadline=None, derandomize=True, print_blob=False
)
settings.load_profile("jaxfd")


# Most programs of the tests run once: XLA takes longer to optimise them than they to run. It ends
# the process for a flag that it does not know, so that they are for the versions that have them.
_QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
_QUICK_COMPILATION = {
    (0, 10): f"{_QUICK} --xla_cpu_use_fusion_emitters=false",
    (0, 12): _QUICK,
}


def pytest_configure(config):
    """Compiles quickly, and keeps what is compiled for the other workers and for the next run.

    The heavy tests, which run for long, are compiled as users' programs are, and so is everything
    with another JAX.
    """
    gc.set_threshold(100_000, 50, 50)  # see `pytest_runtest_teardown`
    quick = _QUICK_COMPILATION.get(jax.__version_info__[:2])
    if config.option.markexpr == "not heavy" and quick:
        os.environ.setdefault("XLA_FLAGS", quick)
    # Where in Python each operation of a program stands, which nobody reads here.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    if config.pluginmanager.has_plugin("cacheprovider"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


_finished = itertools.count(1)


def pytest_runtest_teardown():
    """Spares the collector what JAX keeps of tests that are over.

    It would look it all through again and again: a quarter of the time that tests take.
    """
    if next(_finished) % 20 == 0:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _configuration():
    with x64(True), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    """A floating dtype."""
    return np.dtype(request.param)


@pytest.fixture
def x(dtype):
    """Three numbers of no special kind."""
    return jnp.asarray([0.3, -1.2, 2.1], dtype)
