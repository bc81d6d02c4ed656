"""The demo: MiniLM for five devices, its accuracy on labelled text, a report."""

from ferrule.demo.run import Row, run_demo

__all__ = ["Row", "run_demo"]
