"""A user's function as rows of float64 numbers: what optimisers on the host ask, and nothing else.

Black boxes, plain functions of NumPy arrays and traced ones look alike from here on. This folder
must not know what the rows are for.
"""

from jaxfd.optim._rows.evaluator import (
    Evaluator as Evaluator,
    evaluator_of as evaluator_of,
    untraceable as untraceable,
)
from jaxfd.optim._rows.host_function import learnt as learnt, of_box as of_box
from jaxfd.optim._rows.keeper import Keeper as Keeper
from jaxfd.optim._rows.layout import Layout as Layout
from jaxfd.optim._rows.spread import (
    fitted as fitted,
    pair_of as pair_of,
    real_array as real_array,
    spread as spread,
    whole_bounds as whole_bounds,
)
