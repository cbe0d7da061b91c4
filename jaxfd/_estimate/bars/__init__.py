"""Bars: how far a difference may be from the slope, told by the values themselves.

`rays` lays a few points that move all entries at once, `resolution` sees the grid that values lie
on, `model` makes a bar of everything. Must not know which transform asks, nor who evaluates.
"""

from jaxfd._estimate.bars.model import bars as bars
from jaxfd._estimate.bars.rays import Rays as Rays, lay_rays as lay_rays
from jaxfd._estimate.bars.resolution import UNIFORM as UNIFORM, grid_of as grid_of, sample as sample
from jaxfd._estimate.bars.told import Told as Told
