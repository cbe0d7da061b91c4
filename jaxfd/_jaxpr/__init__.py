"""Programs that JAX traced, followed operation by operation.

This folder must not know what a program is run for: points, steps and methods are above it.
"""

from jaxfd._jaxpr.analytic import Imaginary as Imaginary, imaginary_in as imaginary_in
from jaxfd._jaxpr.change import added as added, changes as changes, sum_dtype as sum_dtype
from jaxfd._jaxpr.collectives import axes_in as axes_in, collective_in as collective_in
from jaxfd._jaxpr.double import in_double as in_double, wider as wider
from jaxfd._jaxpr.factored import Factored as Factored
from jaxfd._jaxpr.follow import PatchedProgram as PatchedProgram, follow as follow
from jaxfd._jaxpr.lookups import longest_table as longest_table
from jaxfd._jaxpr.patch import Patch as Patch, PatchedValue as PatchedValue, Refusal as Refusal
from jaxfd._jaxpr.rules import PatchRule as PatchRule, forget_rule as forget_rule, rule as rule
from jaxfd._jaxpr.trace import (
    TracedFunction as TracedFunction,
    bound as bound,
    full_precision as full_precision,
    largest as largest,
    program_of_jaxpr as program_of_jaxpr,
    trace as trace,
)
from jaxfd._jaxpr.walk import (
    evaluate as evaluate,
    every_constant as every_constant,
    every_eqn as every_eqn,
    primitives as primitives,
    subprograms as subprograms,
    walk as walk,
)
from jaxfd._jaxpr.whole import largest_whole as largest_whole
from jaxfd._jaxpr.widen import holds_float32 as holds_float32
