"""Measurements of bundles on this machine, each in a process of its own."""

from ferrule.runtime.bench.measure import Measurement, measure

__all__ = ["Measurement", "measure"]
