"""The pipeline: points laid out, evaluated, weighed and put back into trees.

Every transform is a `Task`, run in one of three places with the same lines: inside a
kernel (``jax.numpy``), on the host (NumPy), or on the host with its points evaluated in a kernel. A
place evaluates points, the estimator of the method's kind lays them and weighs their values, and a
`Program` brings the two together.
"""

from jaxfd._estimate.adaptive import search as search, search_pairs as search_pairs
from jaxfd._estimate.along import Line as Line, Sampling as Sampling
from jaxfd._estimate.bars import UNIFORM as UNIFORM, grid_of as grid_of
from jaxfd._estimate.estimator import (
    Wish as Wish,
    derivatives as derivatives,
    for_host as for_host,
    second_derivatives as second_derivatives,
)
from jaxfd._estimate.first import (
    FirstOrder as FirstOrder,
    JacobianRows as JacobianRows,
    Rows as Rows,
    Value as Value,
)
from jaxfd._estimate.fixed import along_coordinates as along_coordinates
from jaxfd._estimate.fixed_second import along_pairs as along_pairs
from jaxfd._estimate.found import Derivatives as Derivatives
from jaxfd._estimate.hosted import HostProgram as HostProgram
from jaxfd._estimate.needs import Needs as Needs
from jaxfd._estimate.program import (
    Program as Program,
    ProgramHolder as ProgramHolder,
    check_call as check_call,
)
from jaxfd._estimate.sampled import StepInPlace as StepInPlace, along_directions as along_directions
from jaxfd._estimate.second import Hessian as Hessian, HessianVector as HessianVector
from jaxfd._estimate.slopes import slopes as slopes
from jaxfd._estimate.task import Answer as Answer, Task as Task
from jaxfd._estimate.traced import (
    TracedProgram as TracedProgram,
    Values as Values,
    program_of as program_of,
    values_of as values_of,
)
