"""Programs that JAX traced, followed operation by operation."""

from jaxfd._jaxpr.analytic import lost_in as lost_in
from jaxfd._jaxpr.factored import Factored as Factored
from jaxfd._jaxpr.follow import follow as follow
from jaxfd._jaxpr.trace import TracedFunction as TracedFunction, trace as trace
from jaxfd._jaxpr.walk import evaluate as evaluate, primitives as primitives, walk as walk
