"""Stamps where a copy is published: Colab badges, set-up cells, the citation, and the site's address.

    python tools/stamp.py OWNER/REPO [BRANCH]

The present stamp is read from tools/setup_cell.py, so the command can be given again after a move; the site and its
book ask for it when they are built, and the workflows need none. `--check` changes nothing and exits with 1 when a file
carries another stamp than that cell.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from helpers.files import write_atomically  # noqa: E402

REPOSITORY = r"[\w.-]+/[\w.-]+?"
CLONE_URL = re.compile(rf"(https://github\.com/)({REPOSITORY})(\.git)")
CLONE_BRANCH = re.compile(r'(GAN_REPO_REF\\?", \\?")([^"\\]+)(\\?")')
BADGE = re.compile(rf"(colab\.research\.google\.com/github/)({REPOSITORY})(/blob/)([\w./-]+?)(/notebooks/)")


def stamped_files() -> list[Path]:
    return [
        ROOT / "tools" / "setup_cell.py",
        ROOT / "README.md",
        ROOT / "CITATION.cff",
        *sorted((ROOT / "notebooks").glob("*.ipynb")),
    ]


def current_stamp() -> tuple[str, str]:
    """(OWNER/REPO, branch) in the set-up cell."""
    text = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8")
    return CLONE_URL.search(text)[2], CLONE_BRANCH.search(text)[2]


def repository_address(repository: str) -> str:
    return f"https://github.com/{repository}"


def site_address(repository: str) -> str:
    owner, name = repository.split("/")
    return f"https://{owner}.github.io/{name}/"


def stamp(text: str, repository: str, branch: str, former: str | None = None) -> str:
    """`text` of a file (a notebook's JSON included) with every badge, clone URL and branch replaced.

    The addresses of the repository `former` and of its site are replaced, too; those of others stay.
    """
    text = CLONE_URL.sub(rf"\g<1>{repository}\g<3>", text)
    text = CLONE_BRANCH.sub(rf"\g<1>{branch}\g<3>", text)
    text = BADGE.sub(rf"\g<1>{repository}\g<3>{branch}\g<5>", text)
    if former:
        text = re.sub(rf"{re.escape(repository_address(former))}(?![\w-])", repository_address(repository), text)
        text = text.replace(site_address(former), site_address(repository))
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", nargs="?", help="OWNER/REPO on GitHub")
    parser.add_argument("branch", nargs="?", default="main")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    former = current_stamp()[0]
    if arguments.check:
        repository, branch = current_stamp()
    elif arguments.repository and re.fullmatch(r"[\w.-]+/[\w.-]+", arguments.repository):
        repository, branch = arguments.repository.removesuffix(".git"), arguments.branch
    else:
        parser.error(f"expected OWNER/REPO, got {arguments.repository!r}")
    if not re.fullmatch(r"[\w./-]+", branch):
        parser.error(f"not a branch name: {branch!r}")
    changed = []
    for path in filter(Path.is_file, stamped_files()):
        old = path.read_text(encoding="utf-8")
        new = stamp(old, repository, branch, former)
        if new != old:
            changed.append(path.relative_to(ROOT))
            if not arguments.check:
                write_atomically(path, new.encode())
    print(
        f"{repository} at {branch}: {len(changed)} files {'differ' if arguments.check else 'changed'}",
        *changed,
    )
    return 1 if arguments.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
