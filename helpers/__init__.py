"""The shared parts of the notebooks: data, networks, objectives, the one training loop, metrics and figures.

Import the module you need (``from helpers import networks``); nothing heavy is imported before that.
"""

__version__ = "0.1.0"
