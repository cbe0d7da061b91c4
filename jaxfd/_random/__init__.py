"""Random directions: the methods that move all entries at once.

`draws` makes numbers, `directions` says what directions are, `methods` what the methods share;
each family has a room of its own with its directions and its method. `shaping` is what becomes
of the function's values.
"""

from jaxfd._random.coordinates import RandomCoordinates as RandomCoordinates
from jaxfd._random.directions import Directions as Directions
from jaxfd._random.gaussian import GaussianSmoothing as GaussianSmoothing
from jaxfd._random.guided import Guided as Guided
from jaxfd._random.lowrank import LowRank as LowRank
from jaxfd._random.methods import (
    RandomDirections as RandomDirections,
    TabledDirections as TabledDirections,
    is_random as is_random,
)
from jaxfd._random.orthogonal import Orthogonal as Orthogonal
from jaxfd._random.shaping import differences as differences, shaped as shaped
from jaxfd._random.sphere import Sphere as Sphere
from jaxfd._random.spsa import SPSA as SPSA
