"""The rulers: ``stability`` for the course of a run, ``quality`` for its samples on the features of ``digits`` or
``faces``, and ``judge``, which puts them to a system under training."""

from helpers.measure import quality, stability
