"""Measurements of bundles on this machine, each in a process of its own."""

from ferrule.runtime.bench.measure import Measurement, measure, profile

__all__ = ["Measurement", "measure", "profile"]
