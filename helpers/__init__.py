"""The library behind the notebooks: six wings, each resting on what stands above it in this list.

files, device   ground: atomic files, which device
data            images, points, photographs as tensors on the device; the catalogue of data sets
gan             the thin part, read in an evening: networks, objectives, the one training loop, systems
measure         the rulers: stability of a run, quality of its samples
evidence        recorded runs: read, made, compared, and the paper's claims judged by them
draw            histories and records to figures; trains nothing, reads no file
reader          what serves the person at the notebook: profile, exercises, widgets

A wing imports only from those above it. Inside functions stand those that cost a reader seconds and that most notebooks
do without: torchmetrics, scikit-learn, scipy, torchvision; and Dask, an extra (tests/test_house.py).
"""

from pathlib import Path

__version__ = "0.1.0"

# Commands that records name by their former address: python -m helpers.records, .classifier, .faces.
__path__.append(str(Path(__file__).parent / "former"))
