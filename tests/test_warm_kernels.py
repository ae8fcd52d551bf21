"""A fork is as good as a kernel: with its own environment and folder, it can be interrupted, and ends when told to."""

import os
import sys
from pathlib import Path

import pytest
import warm_kernels as warm
from browser_lab import soon
from jupyter_client.manager import start_new_kernel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
SAY = """
import os, random, sys, torch
print(os.getpid(), os.environ["ONLY_HERE"], os.getcwd(), random.random(), hash("text"), torch.initial_seed())
"""


@pytest.fixture
def started(warm_kernels, tmp_path):
    """A function that starts a kernel in a folder of its own; all end with the test."""
    managers = []

    def start(name):
        (tmp_path / name).mkdir()
        environment = os.environ | {"ONLY_HERE": name, "PYTHONHASHSEED": "0"}
        manager, client = start_new_kernel(cwd=str(tmp_path / name), env=environment, startup_timeout=300)
        managers.append(manager)
        return manager, client

    yield start
    for manager in managers:
        if manager.is_alive():
            manager.shutdown_kernel(now=True)


def said(client, code: str) -> list[str]:
    printed = []
    client.execute_interactive(code, timeout=300, output_hook=lambda message: printed.append(message["content"]))
    return "".join(content.get("text") or content.get("ename", "") for content in printed).split()


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_two_forks_share_nothing_but_what_they_were_born_with(started, tmp_path):
    (_, one), (_, other) = started("one"), started("other")
    pid, name, folder, chance, text, seed = said(one, SAY)
    pid2, name2, folder2, chance2, text2, seed2 = said(other, SAY)
    assert (name, name2) == ("one", "other") and pid != pid2
    assert (Path(folder), Path(folder2)) == (tmp_path / "one", tmp_path / "other")
    assert chance != chance2, "the same random numbers in both"
    assert (text, seed) == (text2, seed2), "PYTHONHASHSEED and torch's seed are the same in every kernel"
    said(one, "import helpers; helpers.changed = True")
    assert said(other, "import helpers; print(hasattr(helpers, 'changed'))") == ["False"]


def test_it_is_interrupted_and_goes_on(started):
    manager, client = started("one")
    # Otherwise the kernel drops for a moment whatever is asked after an error.
    message = client.execute("import time\nprint('begun')\ntime.sleep(300)", stop_on_error=False)
    while client.get_iopub_msg(timeout=300)["content"].get("text") != "begun\n":
        pass
    manager.interrupt_kernel()
    while (reply := client.get_shell_msg(timeout=300))["parent_header"].get("msg_id") != message:
        pass
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert said(client, "print(1 + 1)") == ["2"]


@pytest.mark.parametrize("kindly", [True, False])
def test_it_ends_with_what_jupyter_takes_for_it(kindly, started):
    manager, client = started("one")
    process = int(said(client, "import os; print(os.getpid())")[0])
    manager.shutdown_kernel(now=not kindly)
    assert soon(lambda: gone(process), seconds=300), "the kernel is still there"


def test_who_names_the_same_folder_shares_the_process_until_the_last_is_gone(tmp_path, monkeypatch):
    program, log = tmp_path / "program.py", tmp_path / "log"
    program.write_text(
        "import select, sys\n"
        f"print('begins', file=open({str(log)!r}, 'a'))\n"
        "select.select([sys.stdin], [], [])\n"
        f"print('ends', file=open({str(log)!r}, 'a'))\n"
    )
    monkeypatch.setattr(warm, "__file__", str(program))
    with warm.warm_kernels(tmp_path / "shared"):
        with warm.warm_kernels(tmp_path / "shared"):
            assert soon(log.exists)
        with warm.warm_kernels(tmp_path / "shared"):
            assert log.read_text().split() == ["begins"]
    assert log.read_text().split() == ["begins", "ends"]
    with warm.warm_kernels(tmp_path / "shared"):
        assert soon(lambda: log.read_text().split() == ["begins", "ends", "begins"])
