"""The quasi-Newton method of `minimize`: what is known of a function, and the next step from that.

All of it is NumPy in float64. This folder must not know how runs begin, are saved and end.
"""

from jaxfd.optim._quasi_newton.landscape import (
    HostLandscape as HostLandscape,
    Landscape as Landscape,
    TracedLandscape as TracedLandscape,
)
from jaxfd.optim._quasi_newton.march import March as March, begin_at as begin_at
from jaxfd.optim._quasi_newton.quasi import PATIENCE as PATIENCE, QuasiNewton as QuasiNewton
from jaxfd.optim._quasi_newton.reading import CENTRAL as CENTRAL, Noise as Noise, read as read
from jaxfd.optim._quasi_newton.verdict import look_around as look_around
