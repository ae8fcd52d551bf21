"""Opens an issue on GitHub for every job of .github/workflows/weekly.yml that failed, or adds to the one that is open.

Reads the variables RESULTS (the workflow's `needs` as JSON), RUN_ADDRESS (where its log stands) and what the `gh`
command wants (GH_TOKEN).
"""

import json
import os
import subprocess


def gh(*arguments: str) -> str:
    return subprocess.run(["gh", *arguments], check=True, capture_output=True, text=True).stdout


def main() -> None:
    results = json.loads(os.environ["RESULTS"])
    listed = gh("issue", "list", "--limit", "1000", "--json", "title,number")  # by itself it lists 30
    opened = {issue["title"]: issue["number"] for issue in json.loads(listed)}
    for job in (name for name, outcome in results.items() if outcome["result"] == "failure"):
        title, text = f"Weekly run failed: {job}", f"The log: {os.environ['RUN_ADDRESS']}"
        if title in opened:
            gh("issue", "comment", str(opened[title]), "--body", text)
        else:
            gh("issue", "create", "--title", title, "--body", text)
        print(title)


if __name__ == "__main__":
    main()
