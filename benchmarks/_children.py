"""Runs programs in child processes with a hard time limit, and counts what came of them."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

# Pins the child to its cores before anything else is imported.
_CHILD = """
import os, sys
module, name, cores = sys.argv[1], sys.argv[2], sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, cores[: int(sys.argv[3])])
import importlib
if __name__ == "__main__":
    importlib.import_module(module).SCENARIOS[name].run()
"""


@dataclasses.dataclass
class Outcome:
    """What came of the runs of one scenario.

    Attributes:
        runs: how many there were.
        hangs: how many ran past their limit.
        errors: what the failed ones wrote.
        seconds: how long a finished run took, the longest.
    """

    runs: int = 0
    hangs: int = 0
    errors: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def bad(self) -> int:
        """How many runs hung or failed."""
        return self.hangs + len(self.errors)

    def row(self, title: str) -> str:
        """The line of a table; what the last failed run wrote comes below it."""
        text = (
            f"{title:<66} {self.runs:>5} {self.hangs:>6} {len(self.errors):>9} "
            f"{self.seconds:>7.1f} s"
        )
        if self.errors:
            text += "\n    " + "\n    ".join(self.errors[-1].strip().splitlines()[-12:])
        return text


HEAD = f"{'scenario':<66} {'runs':>5} {'hangs':>6} {'failures':>9} {'slowest':>9}"


def run(
    module: str,
    name: str,
    runs: int,
    limit: float,
    cores: int = 1,
    devices: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Runs ``module.SCENARIOS[name]`` in children, one after another.

    Args:
        module: the module.
        name: the scenario.
        runs: how many children.
        limit: seconds after which a child counts as hanging and is killed.
        cores: how many cores the child is pinned to.
        devices: how many CPU devices JAX is made to show.
        environment: further environment variables.

    Returns:
        The outcome.
    """
    outcome = Outcome()
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **(environment or {}),
    }
    warnings = [f"-W{option}" for option in sys.warnoptions]
    command = [sys.executable, *warnings, "-c", _CHILD, module, name, str(cores)]
    for _ in range(runs):
        outcome.runs += 1
        start = time.perf_counter()
        # A group of its own, so that workers of a child that hangs are killed with it.
        child = subprocess.Popen(
            command,
            cwd=Path(__file__).parent.parent,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, errors = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            outcome.hangs += 1
            continue
        if child.returncode:
            outcome.errors.append(f"exit code {child.returncode}\n{errors}")
        else:
            outcome.seconds = max(outcome.seconds, time.perf_counter() - start)
    return outcome
