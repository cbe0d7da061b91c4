"""Points, described by small integers: where a function is evaluated, not by whom."""

from jaxfd._points.box import (
    Box as Box,
    boxes_of as boxes_of,
    check_bounds as check_bounds,
    own_row as own_row,
    walls_of as walls_of,
)
from jaxfd._points.cloud import Cloud as Cloud
from jaxfd._points.coordinates import (
    Block as Block,
    Coordinates as Coordinates,
    moved_leaves as moved_leaves,
)
