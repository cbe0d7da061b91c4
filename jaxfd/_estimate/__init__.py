"""The pipeline: points laid out, evaluated, weighed and put back into trees.

Every transform is a `Task`, run in one of two places with the same lines: inside a
kernel (``jax.numpy``) or on the host (NumPy). A place brings ``evaluate``, a method
brings stencil and step, and `programs` brings the two together.
"""

from jaxfd._estimate._first import FirstOrder as FirstOrder
from jaxfd._estimate._first import Value as Value
from jaxfd._estimate._in_place import InPlace as InPlace
from jaxfd._estimate._line import Line as Line
from jaxfd._estimate._line import Samples as Samples
from jaxfd._estimate._program import HostProgram as HostProgram
from jaxfd._estimate._program import Program as Program
from jaxfd._estimate._program import TracedProgram as TracedProgram
from jaxfd._estimate._program import WithProgram as WithProgram
from jaxfd._estimate._program import check_call as check_call
from jaxfd._estimate._program import program_of as program_of
from jaxfd._estimate._second import Hessian as Hessian
from jaxfd._estimate._second import HessianVector as HessianVector
from jaxfd._estimate._task import Task as Task
