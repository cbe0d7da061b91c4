"""`PyTree`, the type of what JAX takes apart into leaves.

To jaxtyping's own, strict type checkers say "unknown" wherever a signature mentions it. It exists
so that a user's editor shows none of that; what it means at run time is jaxtyping's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    PyTree: TypeAlias = Any
else:
    from jaxtyping import PyTree as PyTree
