"""The house that helpers is: every wing rests on those below it, nothing goes in a circle, and nothing slow is
imported before it is needed.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import helpers

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("files", "device", "data", "gan", "measure", "evidence", "draw", "reader", "__main__")  # the last: a command
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "helpers").rglob("*.py"))
    if path.parent.name != "former"
}
# Each costs seconds, and most notebooks do without; helpers/__init__.py says so. Dask is not even installed everywhere.
SLOW = ("torchvision", "torchmetrics", "sklearn", "scipy", "matplotlib.pyplot", "distributed")


def imports(module: str, source: str) -> set[str]:
    """The modules of helpers that a module names in its imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide which wing is meant"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in MODULES:  # helpers.data.ImageSet is helpers.data
                name = name.rpartition(".")[0]
            found |= {name} - {"", "helpers", module}
    return found


def floor(module: str) -> int:
    return FLOORS.index(module.split(".")[1])


def rising(module: str, source: str) -> set[str]:
    """Imports of a wing that lies above the module's own."""
    return {name for name in imports(module, source) if floor(name) > floor(module)}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty where there is none."""

    def walk(module, path):
        if module in path:
            return path[path.index(module) :]
        return next(filter(None, (walk(name, [*path, module]) for name in sorted(graph[module]))), [])

    return next(filter(None, (walk(module, []) for module in graph)), [])


GRAPH = {module: imports(module, path.read_text(encoding="utf-8")) for module, path in MODULES.items()}


def test_the_listing_shows_the_floors():
    found = {
        path.stem for path in (ROOT / "helpers").iterdir() if path.stem not in ("__init__", "__pycache__", "former")
    }
    assert found == set(FLOORS)
    for name in FLOORS[:-1]:
        assert re.search(rf"^(.*\W)?{name}\b", helpers.__doc__, re.MULTILINE), (
            f"the map in helpers does not name {name}"
        )


@pytest.mark.parametrize("module", [name for name in MODULES if name != "helpers"])
def test_imports_run_down(module):
    source = MODULES[module].read_text(encoding="utf-8")
    assert not rising(module, source), f"{module} imports what lies above it"
    assert ast.get_docstring(ast.parse(source)), "each file opens with what it holds"


def test_no_circle():
    assert circle(GRAPH) == []


def test_the_checks_find_what_they_look_for():
    assert rising("helpers.gan.watch", "def f():\n    from helpers.measure import quality") == {
        "helpers.measure.quality"
    }
    assert rising("helpers.device", "import helpers.gan.training") == {"helpers.gan.training"}
    assert not rising("helpers.draw.figures", "from helpers.gan import History\nfrom helpers import files")
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_imports_inside_functions_save_a_readers_time():
    for module, path in MODULES.items():
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                inside = [node for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))]
                names = {getattr(node, "module", None) or node.names[0].name for node in inside}
                slow = {name for name in names if name.split(".")[0] in (*SLOW, "IPython")}
                assert names == slow, f"{module}.{function.name} imports {names - slow} late; put it at the top"


def test_helpers_import_without_jupyter_and_without_the_slow_libraries():
    """A plain training script must not need ipywidgets, and importing torchvision alone takes a second."""
    modules = [name for name in MODULES if ".widgets" not in name]
    late = ("ipywidgets", "IPython", *SLOW)
    program = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {late!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", f"imported at the top of a module: {done.stdout}"


@pytest.mark.parametrize("name", ("records", "classifier", "faces"))
def test_commands_that_records_name_still_work(name):
    done = subprocess.run([sys.executable, "-m", f"helpers.{name}", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "python -m helpers." in done.stdout, done.stderr
