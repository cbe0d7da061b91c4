"""Functions and what they read besides their arguments, so that what was made of them can be kept.

A function is looked through by its bytecode (`reads`) and the objects that are named there
(`survey`); what was seen is a `State`, and what is kept as long as it holds lies on a shelf. This
room must not know what is made of functions.
"""

from jaxfd._functions.companions import companions as companions
from jaxfd._functions.precision import in_precision as in_precision
from jaxfd._functions.shelf import (
    Entry as Entry,
    Holder as Holder,
    Reference as Reference,
    Shelf as Shelf,
    Subject as Subject,
    entry_beside as entry_beside,
    entry_of as entry_of,
)
from jaxfd._functions.state import State as State
from jaxfd._functions.survey import Reader as Reader, state_of as state_of
