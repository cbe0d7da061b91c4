"""What all pictures share: colours, how many rows fit, and names that leave room.

Must not know what is drawn.
"""

from __future__ import annotations

from typing import Any

# Of the palette of Okabe and Ito, which the colour-blind can tell apart.
BLUE, RED, GREY = "#0072B2", "#D55E00", "0.5"
CURVES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
# How dark an area is on the ground, whatever that is.
SHADE = 0.15
# More rows than this have no room for names.
ROWS = 30
_NAME = 32
# Where a legend hides nothing; a constrained layout makes room for it.
BESIDE: dict[str, Any] = {
    **{"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)},
    **{"frameon": False, "fontsize": "small"},
}


def ink() -> str:
    """The colour that text has on the ground: black on a light one, white on a dark one."""
    import matplotlib

    return str(matplotlib.rcParams["text.color"])


def short(name: str) -> str:
    """A name that leaves room for the picture: its middle is left out if need be."""
    if len(name) > _NAME:
        name = f"{name[: _NAME // 2 - 1]}…{name[-_NAME // 2 :]}"
    # matplotlib keeps labels that begin with an underscore out of legends.
    return f" {name}" if name.startswith("_") else name
