"""The files of MNIST and Fashion-MNIST: found in a local folder or downloaded, and checked before use.

Looked at in this order: the folder that GAN_DATA names, the project's `data/`, the network (kept in `data/`).
Folder layout, mirrors and md5 sums are torchvision's. Files are unpacked in memory, so that the folder may
be read-only, and what they hold is taken as plain numbers: nothing in them can run code.
"""

import gzip
import hashlib
import http.client
import os
import queue
import threading
import time
import urllib.request
from pathlib import Path

from tqdm import tqdm

from helpers.files import PROJECT, write_atomically

DATA_FOLDER = PROJECT / "data"
LARGEST_DOWNLOAD = 64 * 2**20


class DataError(RuntimeError):
    """A data file or folder cannot be used; the message names it and the remedy."""


class NotAvailable(Exception):
    """The real set is neither on this machine nor to be had from the network."""


def data_folders() -> list[Path]:
    """The folders that may hold data sets, in the order in which they are looked at."""
    named = os.environ.get("GAN_DATA")
    if named and not Path(named).is_dir():
        raise DataError(f"GAN_DATA={named} is not a folder; correct the variable (absolute path) or unset it")
    return [Path(named), DATA_FOLDER] if named else [DATA_FOLDER]


def read_split(title: str, train: bool, patience: float) -> tuple[bytes, bytes]:
    """The unpacked image and label file of one split; NotAvailable if it is nowhere to be had."""
    import torchvision

    source = getattr(torchvision.datasets, title)
    wanted = dict(source.resources[:2] if train else source.resources[2:])
    first_folder = data_folders()[0] / title / "raw"
    missing = [filename for filename in wanted if not (first_folder / filename).exists()]
    if not missing:
        packed = [_read_checked(first_folder / filename, md5) for filename, md5 in wanted.items()]
    elif len(missing) == 1 and first_folder.parents[1] != DATA_FOLDER:
        raise DataError(f"{first_folder / missing[0]} is missing, its companion is there; add it or unset GAN_DATA")
    else:
        raw = DATA_FOLDER / title / "raw"
        packed = [_obtain(raw / filename, md5, source.mirrors, patience) for filename, md5 in wanted.items()]
    images, labels = map(gzip.decompress, packed)
    return images, labels


def _read_checked(path: Path, md5: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); mend its permissions or delete it") from error
    if _md5(content) != md5:
        raise DataError(
            f"{path} is damaged or another file: its {len(content):,} bytes have md5 {_md5(content)} where "
            f"{md5} is expected. Delete it and run again, or put a good copy in its place."
        )
    return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _obtain(path: Path, md5: str, mirrors: list[str], patience: float) -> bytes:
    """The checked file, downloaded and kept at ``path`` if it is not there yet."""
    if path.exists():
        return _read_checked(path, md5)
    problems = []
    for mirror in mirrors:
        try:
            content = _fetch(mirror + path.name, patience)
        except (OSError, http.client.HTTPException) as error:
            problems.append(f"{mirror} failed ({error})")
            continue
        if _md5(content) == md5:
            _write(path, content)
            return content
        problems.append(f"{mirror} sent something else ({len(content):,} bytes with another md5)")
    raise NotAvailable(f"the download of {path.name} failed: {'; '.join(problems)}")


def _fetch(url: str, patience: float) -> bytes:
    """The content behind ``url``; TimeoutError if the next 1 MiB or the end takes over ``patience``."""
    # A thread, because neither the look-up of the host nor the reading of headers has an overall time limit.
    arrived = queue.SimpleQueue()
    given_up = threading.Event()

    def receive():
        try:
            # The limit below comes first; this one only ends a thread that nobody waits for any more.
            with urllib.request.urlopen(url, timeout=2 * patience) as response:
                arrived.put(response.length)
                piece = b"not empty"
                while piece and not given_up.is_set():
                    piece = response.read1(2**16)
                    arrived.put(piece)
        except Exception as error:
            arrived.put(error)

    def wait_until(deadline):
        item = arrived.get(timeout=max(0, deadline - time.monotonic()))
        if isinstance(item, Exception):
            raise item
        return item

    threading.Thread(target=receive, daemon=True).start()
    content = bytearray()
    next_mark, deadline = 2**20, time.monotonic() + patience
    try:
        total = wait_until(deadline)
        with tqdm(total=total, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1]) as bar:
            while piece := wait_until(deadline):
                content += piece
                bar.update(len(piece))
                if len(content) > LARGEST_DOWNLOAD:
                    raise OSError(f"more than {LARGEST_DOWNLOAD:,} bytes")
                if len(content) >= next_mark:
                    next_mark, deadline = len(content) + 2**20, time.monotonic() + patience
        return bytes(content)
    except queue.Empty:
        raise TimeoutError(f"stalled for {patience:g} s") from None
    finally:
        given_up.set()


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}); make the folder writable, free some space, or set "
            f"GAN_DATA to a folder that holds the set"
        ) from error
