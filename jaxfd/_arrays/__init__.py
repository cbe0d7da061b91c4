"""Arrays and trees of them: what every other folder stands on."""

from jaxfd._arrays.arguments import (
    Arguments as Arguments,
    Static as Static,
    as_jax as as_jax,
    bind as bind,
    bind_all as bind_all,
    freeze as freeze,
    has_static as has_static,
    has_tracers as has_tracers,
    is_array as is_array,
    is_tracing as is_tracing,
    positions as positions,
    thaw as thaw,
)
from jaxfd._arrays.dtype import (
    complex_of as complex_of,
    complexify as complexify,
    finfo as finfo,
    is_complex as is_complex,
    is_inexact as is_inexact,
    is_tiny as is_tiny,
    own_arithmetic as own_arithmetic,
    promote as promote,
    real_of as real_of,
    unknown as unknown,
    weakened as weakened,
    widest as widest,
)
from jaxfd._arrays.names import (
    entry_names as entry_names,
    leaf_name as leaf_name,
    path_name as path_name,
)
from jaxfd._arrays.numbers import (
    check_integer as check_integer,
    check_number as check_number,
    check_positive as check_positive,
    count_of as count_of,
    is_integer as is_integer,
    is_number as is_number,
)
from jaxfd._arrays.parts import Parts as Parts, split as split, whole as whole
from jaxfd._arrays.pytree import PyTree as PyTree
from jaxfd._arrays.register import register as register
from jaxfd._arrays.rows import cut as cut, flatten as flatten
from jaxfd._arrays.table import Column as Column, table as table
from jaxfd._arrays.xp import (
    apply as apply,
    column as column,
    constant as constant,
    farther as farther,
    moving as moving,
    over as over,
    power_of_two as power_of_two,
    realise as realise,
    stack as stack,
)
