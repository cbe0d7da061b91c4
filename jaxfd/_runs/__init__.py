"""Runs: how the points of a host function are run, and what becomes of their results."""

from jaxfd._runs.evaluation import Evaluation, Points
from jaxfd._runs.journal import Journal
from jaxfd._runs.runner import Runner

__all__ = ["Evaluation", "Journal", "Points", "Runner"]
