"""Recorded runs: ``records`` reads them, ``recorder`` makes them, ``comparison`` sets them side by side, ``claims``
judges the paper by them, ``sheets`` shows them as tables. Which runs there shall be stands in the ``matrix``;
``replicate`` makes them all, on the processes or the cluster of ``workers``."""

from helpers.evidence import claims, comparison, matrix, recorder, records, sheets
