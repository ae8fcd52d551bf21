"""What several test files share: kernels that start at once."""

import os
import sys

import pytest
import warm_kernels as warm


@pytest.fixture(scope="session")
def warm_folder(tmp_path_factory):
    if sys.platform != "linux":
        yield ""  # for JUPYTER_PATH this is as good as nothing
        return
    base = tmp_path_factory.getbasetemp()  # of pytest-xdist's workers each has one, side by side
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with warm.warm_kernels(base / "jupyter") as folder:
        yield folder


@pytest.fixture
def warm_kernels(warm_folder, monkeypatch):
    """Jupyter's kernels are forks of a process that has imported torch; see warm_kernels.py."""
    monkeypatch.setenv("JUPYTER_PATH", str(warm_folder))
