"""Methods say how a derivative is estimated: stencils, step rules, and values made of both."""

from jaxfd._methods.adaptive import Adaptive as Adaptive
from jaxfd._methods.finite import (
    Backward as Backward,
    Central as Central,
    ComplexStep as ComplexStep,
    Forward as Forward,
)
from jaxfd._methods.method import Method as Method
from jaxfd._methods.stencil import (
    Stencil as Stencil,
    central as central,
    mended as mended,
    one_sided as one_sided,
    shifted as shifted,
    shifted_slopes as shifted_slopes,
)
from jaxfd._methods.step import Relative as Relative
