"""The search for step and derivative along every coordinate: a ladder of steps, and fits."""

from jaxfd._estimate.adaptive.hessian import search_pairs as search_pairs
from jaxfd._estimate.adaptive.search import search as search
