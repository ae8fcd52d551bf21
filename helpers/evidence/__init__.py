"""Recorded runs: ``records`` reads them, ``recorder`` makes them, ``comparison`` sets them side by side, ``inference``
says what a few seeds can say, ``claims`` judges the paper by it, ``specifications`` reads the multiverse, ``sheets``
shows all of it as tables. Which runs there shall be stands in the ``matrix``; ``replicate`` makes them all, on the
processes or the cluster of ``workers``."""

from helpers.evidence import claims, comparison, inference, records, sheets, specifications
