"""Programs that JAX traced, followed operation by operation."""

from jaxfd._jaxpr.analytic import lost_in as lost_in
from jaxfd._jaxpr.factored import Factored as Factored
from jaxfd._jaxpr.trace import Program as Program, trace as trace
from jaxfd._jaxpr.walk import evaluate as evaluate, walk as walk
