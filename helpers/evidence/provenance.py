"""Where a number was made: device, versions and revision, for the records and the report of a problem."""

import platform
import subprocess

import numpy as np
import torch

from helpers.files import PROJECT


def describe_environment(device: str) -> dict:
    """What a number can depend on besides settings and seed."""
    on_cuda = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name(device) if on_cuda else platform.machine()
    rounded = torch.backends.cudnn.allow_tf32 or torch.get_float32_matmul_precision() != "highest"
    return {
        "device": f"{device} ({name})",
        "tf32": on_cuda and rounded,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # a subclass of str, which a checkpoint does not take
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "revision": revision(),
    }


def revision() -> str:
    """The commit that the code stands at, with "+" if helpers differs from it; "unknown" for a copy without git."""

    def git(*arguments):
        command = ["git", *arguments]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("rev-parse", "--show-prefix"):  # a folder inside another project's repository
            return "unknown"
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", "helpers") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
