"""Methods say how a derivative is estimated: stencils, step rules, and values made of both."""

from jaxfd._methods.adaptive import Adaptive as Adaptive, search_like as search_like
from jaxfd._methods.finite import (
    Backward as Backward,
    Central as Central,
    ComplexStep as ComplexStep,
    FiniteDifference as FiniteDifference,
    Forward as Forward,
)
from jaxfd._methods.method import (
    Method as Method,
    StencilMethod as StencilMethod,
    stencil_of as stencil_of,
)
from jaxfd._methods.stencil import (
    Stencil as Stencil,
    central as central,
    mended as mended,
    one_sided as one_sided,
    shifted as shifted,
    shifted_slopes as shifted_slopes,
    slopes_on as slopes_on,
    stencil as stencil,
    weights as weights,
)
from jaxfd._methods.step import (
    Relative as Relative,
    is_default as is_default,
    steps as steps,
)
