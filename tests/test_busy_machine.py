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


def start_late_notebook(folder: Path) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    cell = nbformat.v4.new_code_cell(
        LATE.strip(), execution_count=1, outputs=[nbformat.v4.new_output("stream", text="late\n")]
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "late.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "late.ipynb"]
    if not (folder / "conftest.py").exists():
        command.append("--nbval-current-env")
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_a_late_output_is_waited_for(tmp_path):
    (tmp_path / "ours").mkdir()
    shutil.copyfile(ROOT / "notebooks" / "conftest.py", tmp_path / "ours" / "conftest.py")
    (tmp_path / "ours" / "nbval_sanitize.cfg").touch()
    theirs, ours = (start_late_notebook(tmp_path / name) for name in ("theirs", "ours"))  # both sleep most of the time
    assert "Timeout of 5 seconds" in theirs.communicate()[0], "nbval has become patient by itself"
    said = ours.communicate()[0]
    assert ours.returncode == 0, said
