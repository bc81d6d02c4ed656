"""Report: one self-contained HTML page about what a build left in a folder."""

from ferrule.report.data import ReportData, collect
from ferrule.report.page import render, write
from ferrule.report.page import write as write_report

__all__ = ["ReportData", "collect", "render", "write", "write_report"]
