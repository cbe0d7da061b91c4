"""Prints every table: ``python -m benchmarks``, or one: ``python -m benchmarks speed``."""

from __future__ import annotations

import subprocess
import sys

TABLES = (
    *("speed", "accuracy", "directions", "network", "optimize"),
    *("blackbox", "runs", "resume", "hangs", "stress", "moves", "first_calls", "small_calls"),
    *("bars", "second", "checks", "compositions", "minimize", "fit", "calculator", "imports"),
)


def run(name: str, options: list[str]) -> int:
    """Prints a table; what its process returned."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    # Whatever begins with a dash, and what follows, is for the tables themselves.
    given = sys.argv[1:]
    first = next((i for i, word in enumerate(given) if word.startswith("-")), len(given))
    chosen, options = given[:first] or TABLES, given[first:]
    unknown = [name for name in chosen if name not in TABLES]
    if unknown:
        print(f"no table {unknown[0]!r}: choose from {', '.join(TABLES)}")
        return 2
    # Each in a process of its own: x64 and device counts are set at the start of a process.
    return max(run(name, options) for name in chosen)


if __name__ == "__main__":
    sys.exit(main())
