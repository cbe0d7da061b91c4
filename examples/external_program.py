"""Fits component values of a circuit with a program that is started once for every point.

Records are cut with bass lowered and treble raised; a phono preamplifier must undo that, along a
curve that a standard lays down (RIAA, IEC 60098) by three time constants: 3180, 318 and 75
microseconds. The classic valve design does it with two resistors and two capacitors between two
triodes. Textbooks give their values for a source without resistance and for no load. Triodes are
neither, and what they are depends on their working points: this takes a circuit simulator, here
ngspice. It is an executable that reads a file and writes a file. JAX cannot look into it, so jaxfd
starts it for every point, several at a time, and `jaxfd.optim.least_squares` fits it.

    apt-get install ngspice                     # Debian, Ubuntu
    conda install -c conda-forge ngspice
    brew install ngspice                        # macOS
    pip install jaxfd

    python examples/external_program.py [--journal PATH]

With ``--journal`` every run of ngspice is kept in a file, and a second fit starts none.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

# JAX is imported where it is used, in `fit`: what drives ngspice does not need it.

# The first triode, the network (R1, R2, C1, C2), the second triode, and a third one that drives
# the cable. The triodes are ECC83 (12AX7) in the model of N. Koren, "Improved vacuum tube models
# for SPICE simulations" (1996). Names in braces are to be found; C1 is chosen by the designer,
# because otherwise the whole network could be scaled.
NETLIST = """\
phono preamplifier
* A difference quotient divides the simulator's error by the step, so it had better be small.
.options reltol=1e-9 abstol=1e-15 vntol=1e-12

.subckt triode anode grid cathode
B1 x 0 V=v(anode,cathode)/600*ln(1+exp(600*(1/100+v(grid,cathode)/sqrt(300+v(anode,cathode)^2))))
B2 anode cathode I=2*max(v(x),0)^1.4/1060
Cgk grid cathode 2.3p
Cga grid anode 2.4p
Cak anode cathode 0.9p
.ends

Vsupply supply 0 250
Vin in 0 dc 0 ac 1
X1 a1 in k1 triode
Ra1 supply a1 100k
Rk1 k1 0 1.5k
Cc1 a1 b 100n
R1 b g2 {R1}
R2 g2 d {R2}
C1 d 0 10n
C2 g2 0 {C2}
Rg2 g2 0 1meg
X2 a2 g2 k2 triode
Ra2 supply a2 100k
Rk2 k2 0 {Rk2}
X3 supply a2 k3 triode
Rk3 k3 0 100k
Cc3 k3 out 2.2u
Rload out 0 47k
Ccable out 0 100p

.control
set wr_singlescale
set numdgt=15
ac dec 10 20 20k
wrdata response.txt vdb(out)
quit 0
.endc
.end
"""

NAMES = ("R1", "R2", "C2", "Rk2")
# R1 C1 = 2187, R1 C2 = 750 and R2 C1 = 318 microseconds: S. Lipshitz, "On RIAA equalization
# networks" (1979). Rk2 is what datasheets give for these valves, this supply and Ra2.
TEXTBOOK = (218.7e3, 31.8e3, 3.429e-9, 1.5e3)
FREQUENCIES = 20.0 * 10 ** np.arange(0.0, 3.05, 0.1)
# A cartridge gives 5 mV, an amplifier wants 0.5 V.
GAIN_AT_1KHZ = 40.0

INSTALL = (
    "ngspice is not on the PATH. Install it: 'apt-get install ngspice' (Debian, Ubuntu), "
    "'conda install -c conda-forge ngspice' or 'brew install ngspice' (macOS)."
)


def riaa() -> np.ndarray:
    """The gain to be reached, in dB, at `FREQUENCIES`."""

    def level(frequency: np.ndarray | float) -> np.ndarray:
        s = 2j * np.pi * frequency
        return 20 * np.log10(np.abs((1 + 318e-6 * s) / (1 + 3180e-6 * s) / (1 + 75e-6 * s)))

    return GAIN_AT_1KHZ + level(FREQUENCIES) - level(1000.0)


class Preamplifier:
    """The simulator: NumPy in, a run of ngspice, NumPy out.

    Attributes:
        runs: how often ngspice was started.
    """

    def __init__(self) -> None:
        self.runs = 0
        self._lock = threading.Lock()

    def __call__(self, values: dict[str, float]) -> np.ndarray:
        """Simulates the frequency response.

        Args:
            values: those of `NAMES`, in ohms and farads.

        Returns:
            The gain in dB at `FREQUENCIES`.

        Raises:
            RuntimeError: ngspice failed.
            subprocess.TimeoutExpired: it did not come to an end.
        """
        with self._lock:
            self.runs += 1
        # All 17 digits: the values of neighbouring points may agree in the first four.
        netlist = NETLIST.format(**{name: f"{value:.17g}" for name, value in values.items()})
        # Points run side by side, so each has a folder of its own.
        with tempfile.TemporaryDirectory(prefix="ngspice-") as folder:
            Path(folder, "preamplifier.cir").write_text(netlist)
            done = subprocess.run(
                ["ngspice", "-n", "-b", "preamplifier.cir"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=30,
            )
            # An exit code of 0 is not enough: 'quit 0' is reached after a failed analysis too.
            response = Path(folder, "response.txt")
            if done.returncode != 0 or not response.exists():
                said = (done.stdout + done.stderr).strip()[-1000:]
                raise RuntimeError(f"ngspice failed (exit code {done.returncode}):\n{said}")
            table = np.loadtxt(response, ndmin=2)
        if table.shape != (len(FREQUENCIES), 2) or not np.allclose(table[:, 0], FREQUENCIES):
            raise RuntimeError(f"ngspice wrote a table of another shape, {table.shape}.")
        return table[:, 1]


def fit(simulator: Preamplifier, start: Sequence[float], journal: Path | None) -> Any:
    """Least squares: the circuit whose response comes closest to `riaa`.

    Args:
        simulator: the circuit.
        start: first values of `NAMES`.
        journal: a file to keep all runs in, or None.

    Returns:
        A `jaxfd.optim.Fit`, whose residuals are in dB.
    """
    import jax
    import jax.numpy as jnp

    import jaxfd

    kept = None
    if journal is not None:
        # A journal cannot see that the circuit was changed, so the circuit is its version.
        kept = jaxfd.Journal(journal, version=hashlib.sha256(NETLIST.encode()).hexdigest()[:12])
    # A thread only waits for its ngspice, so threads do: nothing needs to be pickled.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        model = jaxfd.blackbox(
            simulator,
            jax.ShapeDtypeStruct(FREQUENCIES.shape, jnp.float32),
            executor=threads,
            # Where ngspice finds no working point, the step is refused like any bad one.
            on_error="nan",
            name="preamplifier",
            journal=kept,
        )
        first = dict(zip(NAMES, start, strict=True))
        # Components are positive, and their tolerances are shares of them.
        return jaxfd.optim.least_squares(model, first, data=riaa(), transform="log", tol=1e-6)


def main(argv: Sequence[str] | None = None) -> None:
    """Fits and prints."""
    parser = argparse.ArgumentParser(description="Fit a valve phono preamplifier to RIAA.")
    parser.add_argument("--journal", type=Path, help="keep the runs of ngspice in this file")
    options = parser.parse_args(argv)
    if shutil.which("ngspice") is None:
        raise SystemExit(INSTALL)

    simulator = Preamplifier()
    began = time.perf_counter()
    found = fit(simulator, TEXTBOOK, options.journal)
    seconds = time.perf_counter() - began
    print(found)
    last = found.residuals
    first = simulator(dict(zip(NAMES, TEXTBOOK, strict=True))) - riaa()

    print(f"\n{'':14}{'textbook':>10}{'fitted':>10}")
    for name, before in zip(NAMES, TEXTBOOK, strict=True):
        after = found.x[name]
        unit, size = ("nF", 1e-9) if name.startswith("C") else ("kohm", 1e3)
        print(f"{name:14}{before / size:10.3f}{after / size:10.3f}  {unit}")
    for frequency in (20, 100, 1000, 10_000, 20_000):
        k = np.argmin(abs(FREQUENCIES - frequency))
        print(f"at {frequency:6} Hz  {first[k]:+10.3f}{last[k]:+10.3f}  dB off")
    print(f"{'worst of all':14}{max(abs(first)):10.3f}{max(abs(last)):10.3f}  dB off")
    print(f"\nngspice ran {simulator.runs} times in {seconds:.1f} s")


if __name__ == "__main__":
    main()
