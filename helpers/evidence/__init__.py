"""Recorded runs: ``records`` reads them, ``recorder`` makes them, ``comparison`` sets them side by side, ``claims``
judges the paper by them, ``sheets`` shows them as tables."""

from helpers.evidence import claims, comparison, recorder, records, sheets
