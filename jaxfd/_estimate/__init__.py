"""The pipeline: points laid out, evaluated, weighed and put back into trees.

Every transform is a `Task`, run in one of two places with the same lines: inside a
kernel (``jax.numpy``) or on the host (NumPy). A place brings ``evaluate``, a method
brings stencil and step, and `programs` brings the two together.
"""

from jaxfd._estimate.along import Line as Line, Samples as Samples
from jaxfd._estimate.first import FirstOrder as FirstOrder, Value as Value
from jaxfd._estimate.found import by_leaf as by_leaf
from jaxfd._estimate.hosted import HostProgram as HostProgram
from jaxfd._estimate.in_place import InPlace as InPlace
from jaxfd._estimate.layout import lay as lay
from jaxfd._estimate.program import (
    Program as Program,
    WithProgram as WithProgram,
    check_call as check_call,
)
from jaxfd._estimate.second import Hessian as Hessian, HessianVector as HessianVector
from jaxfd._estimate.task import Call as Call, Task as Task, cast as cast, float0 as float0
from jaxfd._estimate.traced import TracedProgram as TracedProgram, program_of as program_of
