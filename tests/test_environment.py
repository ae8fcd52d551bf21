"""pyproject.toml, environment.yml, README.md, Makefile and the imports of notebooks and helpers cannot drift
apart, and no tracked file names this machine or a package index. No network, no kernel.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools import find_namespace_packages

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HELPERS = sorted((ROOT / "helpers").rglob("*.py"))
OWNERS = packages_distributions()  # importable name -> who brings it; a second each time it is asked
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CONDA = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
PIP = [line for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode != 0:
        pytest.skip("not a git clone, so tracked files are unknown")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def imported_packages(source: str) -> set[str]:
    """Top-level names that Python source imports, without the standard library."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


def undeclared(source: str, extras=()) -> set[str]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    # IPython comes with every notebook kernel; pillow, pandas and the like do not count as declared.
    declared |= {"ipython", "gan-training-stability"}
    ours = {"helpers", *(path.stem for path in (ROOT / "tests").glob("*.py"))}  # notebook 05 shows a file of tests/
    return {
        name
        for name in imported_packages(source) - ours
        if not {canonicalize_name(owner) for owner in OWNERS.get(name, [name])} & declared
    }


def test_environment_yml_holds_only_the_interpreter_and_this_project():
    assert set(ENVIRONMENT) == {"name", "channels", "dependencies"}
    assert set(ENVIRONMENT["channels"]) <= {"conda-forge", "nodefaults"}
    assert {re.split(r"[=<> ]", entry)[0] for entry in CONDA} == {"python", "pip", "git"}
    assert len(PIP) == 1
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", PIP[0])[1].split(",")
    assert set(extras) == set(EXTRAS)


def test_conda_python_is_allowed():
    (python,) = (entry for entry in CONDA if entry.startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python=") + ".0")


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_requirement_is_a_floor_with_a_reason_and_is_met_here(line):
    requirement = Requirement(line)
    assert [spec.operator for spec in requirement.specifier] == [">="], "a floor and no ceiling"
    assert re.search(rf'^  "{re.escape(line)}",\s+# \S', PYPROJECT, re.MULTILINE), "its floor needs a comment"
    if requirement.marker is None or requirement.marker.evaluate():
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)


def test_floors_fit_together():
    """The oldest release of each, chosen at once, is its floor. `make test-oldest` installs and tries them."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--all-extras", "--resolution", "lowest-direct", "--python-version", "3.11", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if re.search(r"(?i)error sending request|failed to fetch", done.stderr) and not os.environ.get("CI"):
        pytest.skip("no package index could be reached")
    assert done.returncode == 0, done.stderr
    chosen = dict(line.split(" ;")[0].split("==") for line in done.stdout.splitlines() if "==" in line)
    floors = {}  # where a system has a floor of its own, the higher of the two counts there
    for requirement in map(Requirement, REQUIREMENTS):
        if requirement.marker is None or requirement.marker.evaluate():
            (floor,) = requirement.specifier
            name = canonicalize_name(requirement.name)
            floors[name] = max(floors.get(name, Version("0")), Version(floor.version))
    for name, floor in floors.items():
        oldest = Version(chosen[name]).release
        assert oldest[: len(floor.release)] == floor.release, f"{name} >= {floor}, but {oldest} is needed"


def test_only_helpers_is_packaged_with_all_its_wings():
    find = tomllib.loads(PYPROJECT)["tool"]["setuptools"]["packages"]["find"]
    packaged = set(find_namespace_packages(str(ROOT), include=find["include"]))
    assert packaged == {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in HELPERS}


@pytest.mark.parametrize("path", [*HELPERS, *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_import_is_declared(path):
    if path.suffix == ".py":
        sources = [path.read_text(encoding="utf-8")]
    else:
        cells = nbformat.read(path, as_version=4).cells
        magic = re.compile(r"^\s*[%!].*$", re.MULTILINE)
        sources = [magic.sub("pass", cell.source) for cell in cells if cell.cell_type == "code"]
    extras = ("cluster",) if path.name == "workers.py" else ()  # the one file that may use Dask
    missing = set().union(*(undeclared(source, extras) for source in sources))
    assert not missing, f"{path.name} imports {missing}, which pyproject.toml does not declare"


def test_readme_gives_the_commands_that_exist():
    text, makefile = readme(), (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "conda env create -f environment.yml" in text
    assert f"conda activate {ENVIRONMENT['name']}" in text
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    mentioned = set(
        re.findall(r"\bmake ([a-z-]+)(?=[`\s])", "\n".join(re.findall(r"`[^`]+`|^ {4}.*|^make .*", text, re.M)))
    )
    assert {"run", "test", "lab"} <= mentioned <= targets, f"README names {mentioned - targets}"
    for extras in re.findall(r"pip install -e [\"']?\.\[([a-z,]+)\]", text):
        assert set(extras.split(",")) <= set(EXTRAS)
    for path in NOTEBOOKS:
        assert f"notebooks/{path.name}" in text, f"{path.name} is missing from the README's map"


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", readme()):
        if "://" not in target:
            assert (ROOT / target).exists(), f"README links to {target}"


def test_licence_and_citation_agree_with_pyproject():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert str(citation["version"]) == PROJECT["version"]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_no_tracked_file_names_a_machine_or_a_package_index():
    machine_path = re.compile(r"(?<![\w.:/-])/(?:root|work|home/\w+|Users/\w+|opt/\w+)/\w")
    index_host = re.compile(r"\b(?:pypi|pythonhosted|npmjs|anaconda|download\.pytorch|debian)\.(?:org|com|net)\b")
    found = []
    for path in tracked_files():
        if path.suffix in {".png", ".npz", ".safetensors", ".gz"}:
            continue
        text = path.read_text(encoding="utf-8")
        # The pictures in a notebook are base64, which may hold anything by chance.
        text = re.sub(r'"image/png": "[^"]*"', "", text)
        for pattern in (machine_path, index_host):
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert not found, found


@pytest.mark.parametrize("command", (["format", "--check"], ["check"]), ids=("format", "lint"))
def test_ruff(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"run `make format`:\n{done.stdout}{done.stderr}"


def test_what_continuous_integration_names_is_there():
    """A file that has moved would stop it half-way."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    named = re.findall(r"\b(?:tests|tools|notebooks|helpers)/[\w./-]+", script)
    assert len(named) >= 2
    assert not [path for path in named if not (ROOT / path).exists()]
