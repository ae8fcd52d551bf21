"""``python -m helpers`` prints the environment, for the report of a problem: versions, device, what the shell sets."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from helpers import __version__
from helpers.evidence.provenance import revision

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets", "jupyterlab", "ipykernel", "nbval")


def environment() -> dict[str, str]:
    """Name -> value of what a number or a failure may depend on; no path and no name of a person."""
    found = {"project": f"{__version__}, revision {revision()}"}
    found |= {"system": platform.platform(), "python": platform.python_version()}
    found |= {package: _version(package) for package in PACKAGES}
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    found |= {"accelerator": "MPS" if torch.backends.mps.is_available() else accelerator}
    found |= {"processors": f"{os.cpu_count()}, {torch.get_num_threads()} threads"}
    found |= {"GAN_PROFILE": os.environ.get("GAN_PROFILE", "not set")}
    folders = ("GAN_DATA", "GAN_CHECKPOINTS")
    return found | {name: "set" if os.environ.get(name) else "not set" for name in folders}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    for name, value in environment().items():
        print(f"{name + ':':17}{value}")
