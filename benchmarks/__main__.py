"""Prints every table: ``python -m benchmarks``, or one: ``python -m benchmarks speed``."""

from __future__ import annotations

import subprocess
import sys

TABLES = (
    *("speed", "accuracy", "directions", "network", "optimize"),
    *("blackbox", "runs", "resume", "hangs", "stress", "moves", "first_calls", "small_calls"),
    *("bars", "second", "checks", "compositions"),
)


def main() -> int:
    chosen = sys.argv[1:] or TABLES
    unknown = [name for name in chosen if name not in TABLES]
    if unknown:
        print(f"no table {unknown[0]!r}: choose from {', '.join(TABLES)}")
        return 2
    # Each in a process of its own: x64 and device counts are set at the start of a process.
    return max(
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        for name in chosen
    )


if __name__ == "__main__":
    sys.exit(main())
