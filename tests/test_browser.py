"""Notebooks in JupyterLab and Chromium: each is opened as stored, each with controls then run and every control used.

Skipped with a reason where Chromium, playwright or JupyterLab is missing; REQUIRE_BROWSER=1 makes that a
failure. The smoke profile does: what is proven is that controls and pictures work, which does not depend on
the training. A notebook without controls is not run here, and of those that are no other figure is drawn: nbval has
proven the outputs, and that the page shows stored ones is proven of all.
"""

from pathlib import Path

import browser_lab
import pytest

from tools.build_notebooks import kernel_environment

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WITH_CONTROLS = [path for path in NOTEBOOKS if "widgets." in path.read_text(encoding="utf-8")]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def open_notebook(warm_folder):
    browser_lab.require_browser("browser test", "playwright", "jupyterlab")
    environment = kernel_environment("smoke") | {"JUPYTER_PATH": str(warm_folder)}
    with browser_lab.reader(environment, drawn=False) as visit:
        yield visit


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_stored_picture_is_shown_and_every_control_works(path, open_notebook):
    found = open_notebook(path, stored=path not in WITH_CONTROLS)
    assert not found.problems, "\n".join(found.problems)
    assert found.controls or path not in WITH_CONTROLS, "no control was found"
