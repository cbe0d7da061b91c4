"""Points, described by small integers: where a function is evaluated, not by whom."""

from jaxfd._points.box import (
    SHARE_OF_ROOM as SHARE_OF_ROOM,
    check_bounds as check_bounds,
    fit as fit,
    walls_of as walls_of,
)
from jaxfd._points.cloud import Cloud as Cloud
from jaxfd._points.coordinates import Block as Block, Moves as Moves
