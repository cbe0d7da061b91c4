"""A Python function of one's own, named on the command line, as a black box behind a page.

It is loaded once, before anything is served, and only from the command line: no request can name
a file. Must not know of the server.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxfd.calculator._fields import FieldError, Fields, shown, typed


class ModelError(ValueError):
    """What is wrong with the command line, in words."""


def entries(text: str) -> dict[str, float]:
    """Reads where a function is looked at.

    Args:
        text: names and numbers, ``a=1.0,b=2.5``.

    Raises:
        ModelError: it is not that.

    Example:
        >>> entries("a=1.0,b=2.5")
        {'a': 1.0, 'b': 2.5}
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name.isidentifier() or name in found:
            raise ModelError(f"--at wants names and numbers, a=1.0,b=2.5, and got {part!r}.")
        try:
            found[name] = float(typed(number).value)
        except ValueError as error:
            raise ModelError(f"--at: {name}: {error}") from None
    return found


def load(spec: str) -> Callable[..., Any]:
    """The function that ``model.py:simulate`` names.

    Raises:
        ModelError: there is none.
    """
    path, colon, name = spec.rpartition(":")
    if not colon or not name.isidentifier():
        raise ModelError(f"A function is named as model.py:simulate, and {spec!r} is not.")
    if not Path(path).is_file():
        raise ModelError(f"There is no file {path!r}.")
    found = importlib.util.spec_from_file_location(Path(path).stem, path)
    if found is None or found.loader is None:
        raise ModelError(f"{path!r} is no Python file.")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise ModelError(f"{path!r} has no function {name!r}.")
    return function  # type: ignore[no-any-return]


class Model:
    """A function of named numbers, and what the page asks of it.

    Args:
        function: called with its entries by name; returns one number.
        at: the entries, and where they begin.
        name: what the page calls it.
    """

    def __init__(self, function: Callable[..., Any], at: Mapping[str, float], name: str) -> None:
        self._function, self._at, self._name = function, dict(at), name
        self._box: Any = None

    def answers(self) -> dict[str, Callable[[Any], Any]]:
        """What answers the page's questions, by their names."""
        return {"model": self.about, "sensitivity": self.sensitivity, "sweep": self.sweep}

    def about(self, given: object) -> dict[str, Any]:
        """The function's name and its entries."""
        return {"name": self._name, "entries": self._at}

    def _call(self, entries: Mapping[str, Any]) -> float:
        value = self._function(**{name: float(number) for name, number in entries.items()})
        if np.ndim(value) != 0 and np.size(value) == 1:
            value = np.ravel(value)[0]
        return float(value)

    def _read(self, given: object) -> dict[str, float]:
        fields = Fields(given)
        found = {}
        for name in self._at:
            number = fields.number(f"x.{name}")
            found[name] = math.nan if number is None else float(number.value)
        fields.check()
        try:
            value = self._call(found)
        except Exception as error:  # whatever the reader's function raises is told to its reader
            told = f"{type(error).__name__}: {shown(str(error), 200)}"
            raise FieldError({"": f"{self._name} raised here. {told}"}) from None
        if not math.isfinite(value):
            raise FieldError({"": f"{self._name} is {value} here: take another point."})
        return found

    def _boxed(self) -> Any:
        """The function as a black box: where it raises away from the point, that point is lost."""
        import jax

        import jaxfd

        if self._box is None:
            out = jax.ShapeDtypeStruct((), np.float64)
            self._box = jaxfd.blackbox(self._call, out, on_error="nan", name=self._name)
        return self._box

    def sensitivity(self, given: object) -> dict[str, Any]:
        """The value, and how it hangs on each entry.

        Args:
            given: ``x.NAME`` for each entry.

        Raises:
            FieldError: an entry is no number, or the function fails there.
        """
        import jax

        import jaxfd

        point = self._read(given)
        with jax.enable_x64(True):
            found = jaxfd.sensitivity(self._boxed(), point)
        columns = (found.derivatives, found.errors, found.elasticities, found.elasticity_errors)
        return {
            "value": f"{float(found.value):.10g}",
            "evaluations": found.evaluations + 1,
            "rows": [
                {
                    "name": name,
                    "derivative": f"{slope:.8g}" if math.isfinite(slope) else "none",
                    "bar": _bar(error),
                    "elasticity": f"{elasticity:.4f}" if math.isfinite(elasticity) else "none",
                    "elasticity_bar": _bar(doubt),
                    "weight": float(elasticity) if math.isfinite(elasticity) else 0.0,
                }
                for name, slope, error, elasticity, doubt in zip(found.names, *columns, strict=True)
            ],
        }

    def sweep(self, given: object) -> dict[str, Any]:
        """The error of a central difference against its step, for one entry.

        Args:
            given: ``x.NAME`` for each entry, and ``v``, which one.

        Raises:
            FieldError: an entry is no number, or the function fails there.
        """
        import jax

        import jaxfd

        point = self._read(given)
        chosen = Fields(given).choice("v", tuple(self._at))
        others = {name: number for name, number in point.items() if name != chosen}

        def alone(number: Any) -> float:
            return self._call({**others, chosen: number})

        out = jax.ShapeDtypeStruct((), np.float64)
        box = jaxfd.blackbox(alone, out, on_error="nan", name=self._name)
        with jax.enable_x64(True):
            found = jaxfd.step_sweep(box, point[chosen])
        errors = np.asarray(found.error, float)
        return {
            "shown": chosen,
            "evaluations": found.evaluations + 1,
            "h": np.asarray(found.steps, float).tolist(),
            "error": [float(e) if math.isfinite(e) else None for e in errors],
            "marks": [
                {"name": name, "h": float(step), "error": float(error)}
                for name, step, error in (
                    ("default step", found.default_step, found.default_error),
                    ("best step", found.best_step, found.best_error),
                )
                if math.isfinite(float(step)) and math.isfinite(float(error))
            ],
            "uncertainty": _bar(float(found.uncertainty)),
            "derivative": f"{float(found.reference):.8g}",
        }


def _bar(error: float) -> str:
    if math.isfinite(error):
        return f"{error:.2g}"
    return "unknown" if math.isnan(error) else "unbounded"
