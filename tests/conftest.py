"""What several test files share: kernels that start at once."""

import sys

import pytest
import warm_kernels as warm


@pytest.fixture(scope="session")
def warm_folder(tmp_path_factory):
    if sys.platform != "linux":
        yield ""  # for JUPYTER_PATH this is as good as nothing
        return
    with warm.warm_kernels(tmp_path_factory.mktemp("jupyter")) as folder:
        yield folder


@pytest.fixture
def warm_kernels(warm_folder, monkeypatch):
    """Jupyter's kernels are forks of a process that has imported torch; see warm_kernels.py."""
    monkeypatch.setenv("JUPYTER_PATH", str(warm_folder))
