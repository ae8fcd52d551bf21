"""Each notebook alone in an empty folder, as Colab opens it: only git may fetch, and only from a local clone.

The working tree as it would be published becomes a bare repository; `google.colab` is a stub; every download
is sent to a closed port. The smoke profile does: what is proven is that the notebook finds all it needs.

Colab has a CUDA GPU, so the same run also proves the notebook's code on one that is not there (see fake_device.py).
What nbval and the exercises' tests have proven is left out: of a training few steps are taken, what a cell asserts of
it is not asked, and of a figure no pixels are drawn.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from fake_device import IS_FAITHFUL
from watched_notebooks import printed, report, watch

from tools.build_notebooks import execute, is_setup_cell, kernel_environment

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CLOSED_PORT = "http://127.0.0.1:9"


def git(*arguments, cwd):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    return subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """file:// address of a bare clone that holds the working tree (tracked and new files) on branch main."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git clone, so there is nothing to fetch")
    source, bare = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("remote") / "project.git"
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).decode().split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    git("init", "--quiet", "--initial-branch=main", cwd=source)
    git("add", "--all", cwd=source)
    git("commit", "--quiet", "--message", "snapshot", cwd=source)
    git("clone", "--quiet", "--bare", ".", str(bare), cwd=source)
    git("repack", "-a", "-d", "--quiet", cwd=bare)  # once, and not at every fetch
    return bare.as_uri()


@pytest.fixture
def colab(remote, tmp_path, warm_folder, monkeypatch):
    """(folder, kernel environment) of a simulated Colab."""
    for name in list(os.environ):
        if name.startswith(("PYTEST", "PYTHONPATH", "JUPYTER", "GIT_", "GAN_REPO")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("JUPYTER_PATH", str(warm_folder))
    folder, home = tmp_path / "content", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    environment = kernel_environment("smoke")
    if "GAN_DATA" not in environment and (ROOT / "data" / "MNIST").is_dir():
        environment["GAN_DATA"] = str(ROOT / "data")
    environment |= {
        "COLAB_RELEASE_TAG": "release-colab-simulation",
        "PYTHONPATH": str(ROOT / "tests" / "colab_stub"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "HOME": str(home),
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "GAN_REPO_URL": remote,
        "GIT_ALLOW_PROTOCOL": "file",
        "http_proxy": CLOSED_PORT,
        "https_proxy": CLOSED_PORT,
        "OMP_NUM_THREADS": "1",
    }
    return folder, environment


def run_probe(notebook, folder, environment, gpu=None) -> str:
    """Runs the notebook with `google.colab` loaded, as on Colab; returns the origin of helpers and torch.

    gpu: on which GPU that is not there it would run
    """
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import google.colab"))
    probe = nbformat.v4.new_code_cell("import helpers, torch\nprint(helpers.__file__, torch.__file__, sep='\\n')")
    notebook.cells.append(probe)
    if gpu is not None:
        watch(notebook, gpu, leave_out=True)
    execute(notebook, folder, environment, timeout=600)
    return printed(probe)


found_on_cuda = {}  # notebook -> what its run found, for the test after next


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_alone(path, colab):
    folder, environment = colab
    notebook, found_on_cuda[path] = nbformat.read(path, as_version=4), "it does not run to its end"
    helpers_file, torch_file = run_probe(notebook, folder, environment, gpu="cuda").splitlines()
    found_on_cuda[path] = report(notebook)
    assert helpers_file.startswith(str(folder)), "the helpers must come from the fetched clone"
    assert torch_file == importlib.util.find_spec("torch").origin, "torch was replaced"
    assert {entry.name for entry in folder.iterdir()} == {"gan-clone"}, "the notebook litters its folder"


@pytest.mark.slow
@pytest.mark.skipif(not IS_FAITHFUL, reason="the fake devices need a newer torch")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_on_cuda(path, request):
    if path not in found_on_cuda:
        test_notebook_runs_alone(path, request.getfixturevalue("colab"))
    assert found_on_cuda[path] == "no findings"


def setup_only():
    source = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    assert is_setup_cell(notebook.cells[0])
    return notebook


def test_setup_cell_fetches_a_branch_and_may_run_twice(colab):
    folder, environment = colab
    notebook = setup_only()
    notebook.cells.append(nbformat.v4.new_code_cell(notebook.cells[0].source))
    assert run_probe(notebook, folder, environment).startswith(str(folder / "gan-clone" / "helpers"))
    assert [printed(cell) for cell in notebook.cells[1:3]] == ["Set-up done.\n"] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"GAN_REPO_URL": "file:///nowhere/project.git"}, "could not fetch file:///nowhere/project.git"),
        ({"GAN_REPO_REF": "no-such-branch"}, "could not fetch"),
    ],
    ids=("address", "branch"),
)
def test_setup_cell_says_what_it_could_not_fetch(change, message, colab):
    folder, environment = colab
    with pytest.raises(Exception, match=message):
        run_probe(setup_only(), folder, environment | change)
    assert not list(folder.iterdir()), "a failed fetch leaves nothing behind"


def test_setup_cell_names_a_missing_package(colab):
    folder, environment = colab
    notebook = setup_only()
    hide = (
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'sklearn' else find(name)"
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(hide))
    with pytest.raises(Exception, match="missing: sklearn"):
        run_probe(notebook, folder, environment)
