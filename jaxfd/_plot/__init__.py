"""Pictures of results: one verb that knows how each kind of result is looked at.

matplotlib is an extra, imported when something is drawn. This room must not compute: what a
picture shows is in the result already.
"""

from jaxfd._plot.verb import plot as plot
