"""Kernels that start at once: forked from a process that has imported torch and its like already.

A kernel needs four seconds of a processor before a notebook's first line, and three tests start one for each notebook.
``warm_kernels(folder)`` starts the process that has them ready. A kernel specification in ``folder`` then has Jupyter
start this file instead of a kernel: it asks that process for a fork, hands it its own arguments, environment, folder
and output, and stands for it: an interrupt goes on to the kernel, and the two end together.

nbval does without, so that a notebook that only works because something was imported before it fails there. So do
systems other than Linux, whose libraries may not survive a fork.
"""

import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 300  # seconds until the imports are made, on a busy machine
READY = (
    *("IPython", "ipykernel.kernelapp", "ipywidgets", "matplotlib.figure", "matplotlib.font_manager", "PIL.Image"),
    *("scipy.linalg", "scipy.stats", "sklearn.datasets", "sklearn.linear_model", "sklearn.metrics", "tqdm.auto"),
    *("sklearn.neighbors", "torch", "torchvision", "torchmetrics.image.fid", "torchmetrics.image.kid"),
    "fake_device",  # lies beside this file
)


@contextmanager
def warm_kernels(folder: Path):
    """A folder for the variable JUPYTER_PATH, while the process runs that its kernels are forked from.

    Several who name the same folder share the process: the first starts it, and it ends when none of them is left.
    """
    import fcntl  # this file can be imported on Windows, too

    spec, users = folder / "kernels" / "python3", folder / "users"
    address, process = str(folder / "warm"), None
    spec.mkdir(parents=True, exist_ok=True)
    # -I -S: neither the environment nor site-packages, this end needs the standard library only.
    command = [sys.executable, "-I", "-S", __file__, address, "-f", "{connection_file}"]
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            mine = os.open(users, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads from it: there is no process yet
            argv = {"argv": command, "display_name": "Python 3", "language": "python"}
            (spec / "kernel.json").write_text(json.dumps(argv))
            users.unlink(missing_ok=True)
            os.mkfifo(users)
            reading = os.open(users, os.O_RDONLY | os.O_NONBLOCK)
            mine = os.open(users, os.O_WRONLY)
            # What Python and matplotlib read when they start is as a notebook's kernel has it.
            backend = "module://matplotlib_inline.backend_inline"
            environment = {**os.environ, "PYTHONHASHSEED": "0", "MPLBACKEND": backend}
            process = subprocess.Popen([sys.executable, __file__, address], env=environment, stdin=reading)
            os.close(reading)
    try:
        yield folder
    finally:
        os.close(mine)  # when the last has, its input ends, and so does it
        if process:
            process.wait()


def serve(address: str) -> None:
    """Imports everything, and then forks a kernel for everyone who asks, until the standard input ends."""
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)  # who asks too early waits
        for name in READY:
            with suppress(ImportError):  # as in Colab's image, which has no torchmetrics
                importlib.import_module(name)
        sys.modules["fake_device"].listed_operations()
        threads = threading.enumerate()
        assert len(threads) == 1, f"a fork would lose {threads}"
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                become_kernel(connection)
            connection.close()


def become_kernel(connection: socket.socket) -> None:
    """In the fork: everything that a process is born with, as if it had been started there; then Jupyter's kernel."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, outputs, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    born = json.loads(message)
    for number, output in enumerate(outputs):
        os.dup2(output, number)
        os.close(output)
    os.chdir(born["folder"])
    os.environ.clear()
    os.environ.update(born["environment"])
    own = born["environment"].get("PYTHONPATH", "").split(os.pathsep)
    random.seed()
    sys.path[0] = ""  # in a notebook's kernel, the folder it works in
    sys.path[1:1] = [each for each in own if each and each not in sys.path]
    sys.argv = ["ipykernel_launcher.py", *born["arguments"]]
    connection.sendall(f"{os.getpid()}\n".encode())
    threading.Thread(target=end_with, args=[connection], daemon=True).start()
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance(argv=born["arguments"], parent_handle=os.getppid())
    os._exit(0)


def end_with(connection: socket.socket) -> None:
    connection.recv(1)  # until the other end is gone
    os.killpg(0, signal.SIGKILL)


def stand_for_a_kernel(address: str, arguments: list[str]) -> None:
    """What Jupyter takes for the kernel."""
    with socket.socket(socket.AF_UNIX) as connection:
        connect(connection, address)
        born = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
        socket.send_fds(connection, [json.dumps(born).encode()], [0, 1, 2])
        kernel = int(connection.makefile().readline())
        signal.signal(signal.SIGINT, lambda *_: os.kill(kernel, signal.SIGINT))
        connection.recv(1)  # until the kernel is gone


def connect(connection: socket.socket, address: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    serve(sys.argv[1]) if len(sys.argv) == 2 else stand_for_a_kernel(sys.argv[1], sys.argv[2:])
