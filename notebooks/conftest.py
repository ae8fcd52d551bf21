"""Makes plain `pytest --nbval notebooks` strict and repeatable from any folder: the quick profile, this
interpreter's kernel, and the texts in nbval_sanitize.cfg that may differ. Without --nbval it does nothing.
"""

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PATIENCE = 300  # seconds that nbval waits for a kernel or for an output; by itself it gives an output five


def pytest_configure(config):
    if not (getattr(config.option, "nbval", False) or getattr(config.option, "nbval_lax", False)):
        return
    os.environ.setdefault("GAN_PROFILE", "quick")
    os.environ.setdefault("PYTHONHASHSEED", "0")
    if os.environ.get("GAN_DATA"):
        # Kernels work in notebooks/, where a relative path would mean something else.
        os.environ["GAN_DATA"] = str(Path(os.environ["GAN_DATA"]).resolve())
    # On a busy machine a kernel starts slowly.
    config.option.nbval_kernel_startup_timeout = max(config.option.nbval_kernel_startup_timeout, PATIENCE)
    if config.option.nbval_kernel_name is None:
        config.option.nbval_current_env = True
    if config.option.nbval_sanitize_with is None:
        config.option.nbval_sanitize_with = str(FOLDER / "nbval_sanitize.cfg")


def pytest_collectstart(collector):
    if type(collector).__name__ == "IPyNbFile":
        # These hold pictures; the text/plain beside them, their alt text, is compared instead.
        collector.skip_compare += ("application/javascript", "image/svg+xml", "text/html")


def pytest_itemcollected(item):
    if type(item).__name__ == "IPyNbCell":
        item.output_timeout = PATIENCE
