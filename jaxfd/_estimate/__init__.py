"""The pipeline: points laid out, evaluated, weighed and put back into trees.

Every transform is a `Task`, run in one of two places with the same lines: inside a
kernel (``jax.numpy``) or on the host (NumPy). A place brings ``evaluate``, a method
brings stencil and step, and `programs` brings the two together.
"""

from jaxfd._estimate.along import Line as Line
from jaxfd._estimate.along import Samples as Samples
from jaxfd._estimate.first import FirstOrder as FirstOrder
from jaxfd._estimate.first import Value as Value
from jaxfd._estimate.in_place import InPlace as InPlace
from jaxfd._estimate.program import HostProgram as HostProgram
from jaxfd._estimate.program import Program as Program
from jaxfd._estimate.program import TracedProgram as TracedProgram
from jaxfd._estimate.program import WithProgram as WithProgram
from jaxfd._estimate.program import check_call as check_call
from jaxfd._estimate.program import program_of as program_of
from jaxfd._estimate.second import Hessian as Hessian
from jaxfd._estimate.second import HessianVector as HessianVector
from jaxfd._estimate.task import Task as Task
