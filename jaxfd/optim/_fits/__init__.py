"""Fits: the least sum of squares of residuals, and how well it tells its parameters.

A search is a conversation: it asks for points and is told residuals, so that several share
batches. This folder must not know how points are evaluated.
"""

from jaxfd.optim._fits.fit import Fit as Fit, Minimum as Minimum
from jaxfd.optim._fits.least_squares import least_squares as least_squares
