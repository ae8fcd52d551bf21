"""On a busy machine outputs come late: strict nbval waits for them, as notebooks/conftest.py tells it to."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
# The kernel answers at once, and says only two seconds after nbval's own patience has ended that there is no more.
LATE = """
import time
kernel = get_ipython().kernel
publish = kernel._publish_status
kernel._publish_status = lambda status, *rest, **more: (
    time.sleep(7 if status == "idle" else 0), publish(status, *rest, **more))
print("late")
"""


def run_late_notebook(folder: Path) -> subprocess.CompletedProcess:
    cell = nbformat.v4.new_code_cell(
        LATE.strip(), execution_count=1, outputs=[nbformat.v4.new_output("stream", text="late\n")]
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "late.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "late.ipynb"]
    if not (folder / "conftest.py").exists():
        command.append("--nbval-current-env")
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_a_late_output_is_waited_for(tmp_path):
    assert "Timeout of 5 seconds" in run_late_notebook(tmp_path).stdout, "nbval has become patient by itself"
    shutil.copyfile(ROOT / "notebooks" / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "nbval_sanitize.cfg").touch()
    done = run_late_notebook(tmp_path)
    assert done.returncode == 0, done.stdout
