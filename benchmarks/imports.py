"""How long importing takes: the library alone, and its first transform beside JAX.

Each import is a process of its own: processor time, medians of differences from an empty
program, interleaved.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

PROGRAMS = {
    "nothing": "pass",
    "jaxfd": "import jaxfd",
    "jax": "import jax",
    "grad": "from jaxfd import grad",
}
ROUNDS = 7


def seconds(program: str) -> float:
    """The processor time that a program takes, which neighbours do not change."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Compiled once, as an installed library is.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", program], check=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Prints the table; returns whether a goal was missed."""
    for program in PROGRAMS.values():
        seconds(program)  # reads files, writes bytecode
    rounds = [{name: seconds(p) for name, p in PROGRAMS.items()} for _ in range(ROUNDS)]
    own = statistics.median(r["jaxfd"] - r["nothing"] for r in rounds)
    ratio = statistics.median(
        (r["grad"] - r["nothing"]) / (r["jax"] - r["nothing"]) for r in rounds
    )
    print(f"import jaxfd                               {own:6.3f} s   (goal 0.1)")
    print(f"from jaxfd import grad, over import jax    {ratio:6.2f}     (goal 1.15)")
    return int(own > 0.1 or ratio > 1.15)


if __name__ == "__main__":
    sys.exit(main())
