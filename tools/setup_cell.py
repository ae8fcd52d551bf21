# @title Set-up: use the clone around this notebook, else (on Colab) fetch one. Nothing is installed or replaced.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

url = os.environ.get("GAN_REPO_URL", "https://github.com/OWNER/REPO.git")
branch = os.environ.get("GAN_REPO_REF", "main")
here = Path.cwd()
clones = (folder for folder in (here, *here.parents) if (folder / "helpers/gan/training.py").is_file())
root = next(clones, Path("gan-clone").resolve())
fetch = ["git", "clone", "--quiet", "--depth=1", "--branch", branch, url, str(root)]
if not (root / "helpers").is_dir() and subprocess.call(fetch) != 0:
    raise RuntimeError(f"could not fetch {url}; open this notebook inside a clone, or set GAN_REPO_URL")
needed = ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets", "tqdm", "sklearn", "safetensors")
if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
    raise ImportError(f"missing: {', '.join(missing)}; see 'Set-up' in {root / 'README.md'}")
sys.path.insert(0, str(root))
print("Set-up done.")
