"""Faults in data files and downloads: each ends in a clear error, the next mirror or the named stand-in.

The set is a tiny one made here; the servers are on this machine's loopback. No test reaches the network.
"""

import errno
import gzip
import hashlib
import http.server
import os
import pickle
import random
import struct
import threading
import time

import pytest
import torch
import torchvision

from helpers import data
from helpers.data import files as data_files
from helpers.data.files import DataError

FILENAMES = [filename for filename, _ in torchvision.datasets.MNIST.resources]
PATIENCE = 0.5  # seconds, for servers that stall
PATIENT = 120.0  # for all others: on a busy machine an answer may take long


def _idx(kind: int, *shape: int, values: bytes) -> bytes:
    return gzip.compress(struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + values)


@pytest.fixture(scope="module")
def files():
    """File name to content of a set of six training and four test images; image i has all pixels 40 i."""
    contents = []
    for count in (6, 4):
        pixels = bytes(40 * i for i in range(count) for _ in range(28 * 28))
        contents.append(_idx(8, count, 28, 28, values=pixels))
        contents.append(_idx(8, count, values=bytes(range(count))))
    return dict(zip(FILENAMES, contents, strict=True))


@pytest.fixture(autouse=True)
def tiny_set(files, monkeypatch, tmp_path):
    """MNIST becomes the tiny set, `data/` an empty folder and the network a closed port."""
    sums = [(filename, hashlib.md5(content).hexdigest()) for filename, content in files.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(data_files, "DATA_FOLDER", tmp_path / "data")
    monkeypatch.delenv("GAN_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def named(files, monkeypatch, tmp_path):
    """A folder with the tiny set that GAN_DATA names; its path has a space and letters beyond ASCII."""
    raw = tmp_path / "Bücher и данные" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for filename, content in files.items():
        (raw / filename).write_bytes(content)
    monkeypatch.setenv("GAN_DATA", str(raw.parents[1]))
    return raw


def _assert_tiny(loaded):
    assert loaded.name == "mnist" and loaded.notice == ""
    assert loaded.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded.images.shape == (6, 1, 28, 28)
    assert torch.allclose(loaded.images[:, 0, 5, 5], torch.arange(6) * 40 / 127.5 - 1)


# ---- files in a folder


def test_good_folder_is_read_without_being_written_to(named):
    before = sorted(named.rglob("*"))
    _assert_tiny(data.load_images("mnist"))
    assert data.load_images("mnist", train=False).labels.tolist() == [0, 1, 2, 3]
    assert sorted(named.rglob("*")) == before


@pytest.mark.parametrize("filename", FILENAMES[:2])
@pytest.mark.parametrize("keep", [0, 1, 20, -1])
def test_truncated_file_is_named(named, filename, keep):
    (named / filename).write_bytes((named / filename).read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged") as caught:
        data.load_images("mnist")
    assert str(named / filename) in str(caught.value) and "Delete it" in str(caught.value)


def test_every_flipped_bit_is_noticed(named):
    path = named / FILENAMES[0]
    good = path.read_bytes()
    randomly = random.Random(0)
    for _ in range(50):
        damaged = bytearray(good)
        damaged[randomly.randrange(len(good))] ^= 1 << randomly.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            data.load_images("mnist")
    path.write_bytes(good)
    _assert_tiny(data.load_images("mnist"))


@pytest.mark.parametrize("lost", FILENAMES[:2])
def test_missing_companion_is_named(named, lost):
    (named / lost).unlink()
    with pytest.raises(DataError, match="missing") as caught:
        data.load_images("mnist")
    assert str(named / lost) in str(caught.value)


def test_folder_in_place_of_a_file_is_named(named):
    (named / FILENAMES[0]).unlink()
    (named / FILENAMES[0]).mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        data.load_images("mnist")


def test_wrong_folder_in_variable_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GAN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="GAN_DATA=.*nowhere is not a folder"):
        data.load_images("mnist")


def test_folder_without_the_set_falls_through_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("GAN_DATA", str(tmp_path))
    loaded = data.load_images("mnist")
    assert loaded.name == "digits"
    assert f"GAN_DATA={tmp_path} has no MNIST/raw" in loaded.notice and "download" in loaded.notice


class _Payload:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_crafted_pickle_is_refused_and_never_run(named, tmp_path, pack):
    witness = tmp_path / "executed"
    payload = pickle.dumps(_Payload(witness))
    for filename in FILENAMES:
        (named / filename).write_bytes(pack(payload))
    with pytest.raises(DataError, match="another file"):
        data.load_images("mnist")
    assert not witness.exists()
    pickle.loads(payload)
    assert witness.exists(), "the payload itself must work, or this test proves nothing"


def test_gzip_bomb_is_refused_before_it_is_unpacked(named, monkeypatch):
    (named / FILENAMES[0]).write_bytes(gzip.compress(bytes(50_000_000)))
    monkeypatch.setattr(gzip, "decompress", lambda _: pytest.fail("unpacked an unchecked file"))
    with pytest.raises(DataError, match="another file"):
        data.load_images("mnist")


# ---- downloads


class _Handler(http.server.BaseHTTPRequestHandler):
    """The first part of the path chooses the fault, the last names the file."""

    def do_GET(self):
        _, mode, filename = self.path.split("/")
        self.server.requests.append(self.path)
        content = self.server.files[filename]
        if mode in ("403", "503"):
            self.send_error(int(mode))
        elif mode == "html":
            self._send(b"<html><title>Log in to this wireless network</title></html>")
        elif mode == "truncated":
            self._send(content[: len(content) // 2], declared=len(content))
        elif mode == "cut_off":
            self._send(content[: len(content) // 2], declared=None)
        elif mode == "silent":
            self.server.over.wait(PATIENT)
        elif mode == "stalls_midway":
            self._send(content[:50], declared=len(content))
            self.server.over.wait(PATIENT)
        elif mode == "trickles":
            self._send(b"", declared=10**6)
            while not self.server.over.wait(0.05):
                self.wfile.write(b"x")
        elif mode == "endless":
            self._send(b"", declared=None)
            while not self.server.over.is_set():
                self.wfile.write(bytes(2**16))
        elif mode == "garbage":
            self.wfile.write(b"\0\xff not http\r\n\r\n")
        else:
            self._send(content)

    def _send(self, body, declared=...):
        self.send_response(200)
        if declared is not None:
            self.send_header("Content-Length", len(body) if declared is ... else declared)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that gives up is what these tests provoke."""


@pytest.fixture
def server(files):
    server = _Server(("127.0.0.1", 0), _Handler)
    server.files, server.requests, server.over = files, [], threading.Event()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def mirrors(server, monkeypatch):
    """A function that makes the named faults the list of mirrors."""

    def use(*modes):
        urls = [f"http://127.0.0.1:{server.server_port}/{mode}/" for mode in modes]
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", urls)

    return use


FAULTS = {
    "403": "403",
    "503": "503",
    "html": "sent something else",
    "truncated": "sent something else",
    "cut_off": "sent something else",
    "silent": "stalled for 0.5 s",
    "stalls_midway": "stalled for 0.5 s",
    "trickles": "stalled for 0.5 s",
    "endless": "more than 1,048,576 bytes",
    "garbage": "failed",
}


def _stored_files():
    return sorted(path.name for path in data_files.DATA_FOLDER.rglob("*") if path.is_file())


def test_download_is_kept_and_not_repeated(server, mirrors, files):
    mirrors("good")
    _assert_tiny(data.load_images("mnist"))
    assert _stored_files() == sorted(FILENAMES[:2])
    assert (data_files.DATA_FOLDER / "MNIST/raw" / FILENAMES[0]).read_bytes() == files[FILENAMES[0]]
    _assert_tiny(data.load_images("mnist"))
    assert len(server.requests) == 2


def test_download_shows_progress(mirrors, capsys):
    mirrors("good")
    data.load_images("mnist")
    assert FILENAMES[0] in capsys.readouterr().err


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_server_ends_in_the_stand_in_and_leaves_no_file(fault, mirrors, monkeypatch):
    monkeypatch.setattr(data_files, "LARGEST_DOWNLOAD", 2**20)
    mirrors(fault, fault)
    stalls = "stalled" in FAULTS[fault]
    start = time.monotonic()
    loaded = data.load_images("mnist", patience=PATIENCE if stalls else PATIENT)
    assert time.monotonic() - start < PATIENT, "it waited for the server and not for its patience to end"
    assert loaded.name == "digits"
    assert FAULTS[fault] in loaded.notice and FILENAMES[0] in loaded.notice
    assert _stored_files() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_mirror_is_followed_by_the_next(fault, mirrors, monkeypatch):
    monkeypatch.setattr(data_files, "LARGEST_DOWNLOAD", 2**20)
    mirrors(fault, "good")
    fetch, stalls = data_files._fetch, "stalled" in FAULTS[fault]

    def patient_with_the_good(url, patience):
        return fetch(url, patience if stalls and fault in url else PATIENT)

    monkeypatch.setattr(data_files, "_fetch", patient_with_the_good)
    _assert_tiny(data.load_images("mnist", patience=PATIENCE))
    assert _stored_files() == sorted(FILENAMES[:2])


def test_default_patience_keeps_within_half_a_minute():
    """Two mirrors and the limit on waiting of each, whatever they do."""
    from inspect import signature

    patience = signature(data.load_images).parameters["patience"].default
    assert patience * 2 < 30


def test_slow_but_steady_download_is_not_given_up(server, monkeypatch):
    """Longer than the patience in all, but never that long without another MiB."""
    content, patience = bytes(3 * 2**20), 3.0

    class Slow(_Handler):
        def do_GET(self):
            self._send(b"", declared=len(content))
            for _ in range(12):
                time.sleep(patience / 10)  # four pieces make a MiB
                self.wfile.write(bytes(2**18))

    server.RequestHandlerClass = Slow
    got = data_files._fetch(f"http://127.0.0.1:{server.server_port}/slow", patience)
    assert got == content


@pytest.mark.parametrize("keep", [0, 20, -1])
def test_damaged_file_in_the_projects_folder_is_named(keep, mirrors, files):
    mirrors("good")
    raw = data_files.DATA_FOLDER / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / FILENAMES[0]).write_bytes(files[FILENAMES[0]][:keep])
    with pytest.raises(DataError, match="Delete it and run again") as caught:
        data.load_images("mnist")
    assert str(raw / FILENAMES[0]) in str(caught.value)
    (raw / FILENAMES[0]).unlink()
    _assert_tiny(data.load_images("mnist"))


def test_folder_that_cannot_be_made_is_named(mirrors, monkeypatch, tmp_path):
    mirrors("good")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(data_files, "DATA_FOLDER", tmp_path / "file" / "data")
    with pytest.raises(DataError, match="cannot be written.*GAN_DATA"):
        data.load_images("mnist")


def test_read_only_folder_is_named(mirrors, tmp_path):
    mirrors("good")
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("permissions do not bind this user")
        with pytest.raises(DataError, match="cannot be written.*make the folder writable"):
            data.load_images("mnist")
    finally:
        tmp_path.chmod(0o700)


def test_read_only_folder_without_network_still_gives_the_stand_in(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(data_files, "DATA_FOLDER", tmp_path / "file" / "data")
    assert data.load_images("mnist").name == "digits"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_failed_write_leaves_nothing_behind(mirrors, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    mirrors("good")
    monkeypatch.setattr("helpers.files.PAUSES", (0.0,))
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DataError, match=os.strerror(code)):
        data.load_images("mnist")
    assert _stored_files() == []


def test_interrupt_during_a_download_leaves_nothing_behind(mirrors, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    mirrors("good")
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        data.load_images("mnist")
    assert _stored_files() == []


def test_two_downloads_at_once_both_succeed(mirrors):
    mirrors("good")
    loaded = []
    threads = [threading.Thread(target=lambda: loaded.append(data.load_images("mnist"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 4
    for one in loaded:
        _assert_tiny(one)
    assert _stored_files() == sorted(FILENAMES[:2])
