"""Photographs from folders and zips: geometry, values, broken and hostile files. Pictures are made here."""

import io
import os
import random
import shutil
import stat
import tempfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers.data import files as data_files
from helpers.data import folder as image_folder
from helpers.data.faces import load_faces
from helpers.data.files import DataError
from helpers.data.folder import load_image_folder


def _picture(width=48, height=40, colour=(200, 100, 50), kind="PNG", **options) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(content, kind, **options)
    return content.getvalue()


def _noise(kind="JPEG", size=40, seed=0) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Three plain pictures, one of them in a subfolder; the path has a space and letters beyond ASCII."""
    root = tmp_path / "Мои фото ü"
    (root / "deeper").mkdir(parents=True)
    (root / "a.png").write_bytes(_picture(colour=(255, 0, 0)))
    (root / "b.JPG").write_bytes(_picture(colour=(0, 255, 0), kind="JPEG", quality=95))
    (root / "deeper" / "c.bmp").write_bytes(_picture(colour=(0, 0, 255), kind="BMP"))
    (root / "notes.txt").write_text("not a picture")
    return root


def _zip(path, members: dict) -> os.PathLike:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _assert_three_colours(loaded):
    assert loaded.images.shape == (3, 3, 16, 16) and loaded.images.dtype == torch.uint8
    assert loaded.labels.tolist() == [0, 0, 0] and loaded.labels.dtype == torch.int64
    assert loaded.notice == ""
    assert (loaded.images.float().mean((2, 3)) - 255 * torch.eye(3)).abs().max() < 3


def test_folder_and_zip_give_the_same_images_in_alphabetical_order(folder, tmp_path):
    _assert_three_colours(load_image_folder(folder, 16))
    members = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    packed = load_image_folder(_zip(tmp_path / "photos.zip", dict(reversed(members.items()))), 16)
    _assert_three_colours(packed)
    assert packed.name == "photos"
    assert torch.equal(packed.images, load_image_folder(folder, 16).images)


def test_limit_takes_the_first_files(folder):
    loaded = load_image_folder(folder, 16, limit=2)
    assert len(loaded.images) == len(loaded.labels) == 2


@given(bad=st.one_of(st.integers(max_value=0), st.floats(), st.text(), st.booleans()))
def test_bad_numbers_are_named_before_the_folder_is_read(bad):
    for argument in ("size", "limit", "max_pixels"):
        with pytest.raises(ValueError, match=f"{argument}="):
            load_image_folder("nowhere", **({"size": 16} | {argument: bad}))


def test_central_square_is_kept(tmp_path):
    """Red | green | blue side by side: the crop of the middle third is green only."""
    stripes = np.zeros((30, 90, 3), np.uint8)
    for stripe in range(3):
        stripes[:, 30 * stripe : 30 * stripe + 30, stripe] = 255
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    Image.fromarray(stripes.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    images = load_image_folder(tmp_path, 30).images.float()
    assert torch.equal(images, torch.tensor([0.0, 255.0, 0.0])[:, None, None].expand(2, 3, 30, 30))


def test_shrinking_is_antialiased(tmp_path):
    """A one-pixel checkerboard shrinks to even grey; without antialiasing it would stay black and white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    inner = load_image_folder(tmp_path, 16).images[0, :, 3:-3, 3:-3].float()
    assert (inner - 127.5).abs().max() < 4


def test_same_size_keeps_every_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    assert np.array_equal(load_image_folder(tmp_path, 16).images[0].permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_other_colour_modes_become_three_channels(tmp_path, mode):
    Image.new(mode, (20, 20)).save(tmp_path / ("x.jpg" if mode == "CMYK" else "x.png"))
    assert load_image_folder(tmp_path, 16).images.shape == (1, 3, 16, 16)


def test_rotation_stored_by_a_camera_is_applied(tmp_path):
    left_red = np.zeros((20, 20, 3), np.uint8)
    left_red[:, :10, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: left becomes top
    Image.fromarray(left_red).save(tmp_path / "x.png", exif=exif)
    red = load_image_folder(tmp_path, 20).images[0, 0]
    assert red[:10].min() == 255 and red[10:].max() == 0


# ---- nothing usable


def test_empty_folder_names_what_was_looked_for(tmp_path):
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(DataError, match=r"holds no image; looked for files that end in .*\.png"):
        load_image_folder(tmp_path, 16)
    with pytest.raises(DataError, match="holds no image"):
        load_image_folder(_zip(tmp_path / "empty.zip", {}), 16)


def test_missing_path_and_foreign_file_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere is neither a folder nor a readable zip"):
        load_image_folder(tmp_path / "nowhere", 16)
    (tmp_path / "film.avi").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="film.avi is neither"):
        load_image_folder(tmp_path / "film.avi", 16)


def test_only_broken_images_are_an_error_with_the_reason(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="all 1 failed, the first with cannot identify"):
        load_image_folder(tmp_path, 16)


# ---- broken images


def test_broken_images_are_skipped_counted_and_named(folder):
    (folder / "aa.jpg").write_bytes(_noise()[:300])
    (folder / "ab.png").write_bytes(b"no picture")
    (folder / "ac.png").write_bytes(b"")
    loaded = load_image_folder(folder, 16)
    assert loaded.notice.startswith("3 of 6 images") and "aa.jpg" in loaded.notice
    _assert_three_colours(type(loaded)(loaded.name, loaded.images, loaded.labels))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_random_damage_never_stops_the_loading(tmp_path, kind):
    good = _noise(kind)
    randomly = random.Random(kind)
    (tmp_path / "good.png").write_bytes(_picture())
    for number in range(150):
        damaged = bytearray(good)
        for _ in range(randomly.choice([1, 1, 3, 30])):
            damaged[randomly.randrange(min(len(good), randomly.choice([60, 10**6])))] ^= 1 << randomly.randrange(8)
        (tmp_path / f"{number}.{kind.lower()}").write_bytes(damaged[: randomly.randrange(len(good)) or None])
    loaded = load_image_folder(tmp_path, 16)
    assert 1 <= len(loaded.images) < 151 and "of 151 images" in loaded.notice


def test_random_damage_to_a_zip_loses_images_or_is_named(folder, tmp_path):
    good = _zip(tmp_path / "good.zip", {f"{i}.jpg": _noise(seed=i) for i in range(5)}).read_bytes()
    randomly = random.Random(1)
    outcomes = {"whole": 0, "fewer": 0, "refused": 0}
    for _ in range(150):
        damaged = bytearray(good)
        # Half of the damage goes to the directory at the end, where a zip is most sensitive.
        start = randomly.choice([0, len(good) - 300])
        damaged[randomly.randrange(start, len(good))] ^= 1 << randomly.randrange(8)
        (tmp_path / "bad.zip").write_bytes(damaged)
        try:
            loaded = load_image_folder(tmp_path / "bad.zip", 16)
        except DataError as error:
            assert "bad.zip" in str(error)
            outcomes["refused"] += 1
        else:
            outcomes["whole" if len(loaded.images) == 5 else "fewer"] += 1
    assert outcomes["fewer"] and outcomes["refused"], outcomes


@pytest.mark.parametrize("keep", [0, 3, 100, -30])
def test_truncated_zip_is_named(tmp_path, keep):
    path = _zip(tmp_path / "cut.zip", {f"{i}.jpg": _noise(seed=i) for i in range(3)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cut\.zip is neither a folder nor a readable zip"):
        load_image_folder(path, 16)


# ---- hostile files


def test_zip_members_never_touch_the_disk(tmp_path):
    inner = tmp_path / "one" / "two"
    inner.mkdir(parents=True)
    names = ["../up.png", "../../up.png", str(tmp_path / "absolute.png"), "C:\\up.png", "..\\up.png"]
    path = _zip(inner / "evil.zip", dict.fromkeys(names, _picture()))
    before = sorted(tmp_path.rglob("*"))
    assert len(load_image_folder(path, 16).images) == len(names)
    assert sorted(tmp_path.rglob("*")) == before


def test_link_inside_a_zip_is_not_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(_picture())
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = _zip(tmp_path / "x.zip", {"good.png": _picture(), link: str(tmp_path / "secret.png")})
    loaded = load_image_folder(path, 16)
    assert len(loaded.images) == 1 and "link.png" in loaded.notice


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_out_of_a_folder_are_not_followed(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "s.png").write_bytes(_picture())
    try:
        (folder / "link.png").symlink_to(secret / "s.png")
    except OSError:
        pytest.skip("links need a right that this user does not have, as on Windows")
    (folder / "linked_folder").symlink_to(secret)
    (folder / "circle").symlink_to(folder)
    _assert_three_colours(load_image_folder(folder, 16))
    (folder / "inside.png").symlink_to(folder / "a.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    loaded = load_image_folder(folder, 16)
    assert len(loaded.images) == 4 and "1 of 5" in loaded.notice and "loop.png" in loaded.notice


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipe_with_an_images_name_does_not_block(folder):
    os.mkfifo(folder / "pipe.png")
    assert "pipe.png: not a regular file" in load_image_folder(folder, 16).notice


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = _zip(tmp_path / "bomb.zip", {f"{i}.bmp": bytes(5_000_000) for i in range(4)})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("a member was unpacked"))
    with pytest.raises(DataError, match="would unpack to 20,000,000 bytes, over 100 times its size"):
        load_image_folder(path, 16)


def test_overlapping_members_are_counted_each(tmp_path):
    """One packed member that the directory lists a thousand times: small per member, huge in all."""
    path = _zip(tmp_path / "overlap.zip", {"a.bmp": bytes(50_000) + os.urandom(50_000)})
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.infolist()[0]
        for number in range(1000):
            copy = zipfile.ZipInfo(f"{number}.bmp")
            for field in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(copy, field, getattr(first, field))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True
    with pytest.raises(DataError, match="would unpack to 100,100,000 bytes"):
        load_image_folder(path, 16)


def test_member_that_lies_about_its_size_is_skipped(tmp_path):
    """The directory says 60 bytes, the data holds more: only 60 are unpacked, and their sum fails."""
    path = _zip(tmp_path / "liar.zip", {"good.png": _picture(), "liar.bmp": _picture(900, 900, kind="BMP")})
    with zipfile.ZipFile(path) as archive:
        true_size = archive.getinfo("liar.bmp").file_size
    path.write_bytes(path.read_bytes().replace(true_size.to_bytes(4, "little"), (60).to_bytes(4, "little")))
    loaded = load_image_folder(path, 16)
    assert len(loaded.images) == 1 and "liar.bmp" in loaded.notice


def test_encrypted_member_is_skipped(tmp_path):
    path = _zip(tmp_path / "locked.zip", {"a.png": _picture(), "b.png": _picture()})
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 8] |= 1
    local = content.rfind(b"PK\x03\x04", 0, entry)
    content[local + 6] |= 1
    path.write_bytes(content)
    loaded = load_image_folder(path, 16)
    assert len(loaded.images) == 1 and "b.png" in loaded.notice and "password" in loaded.notice


def test_file_beyond_the_size_limit_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(image_folder, "LARGEST_FILE", 10_000)
    (folder / "d.png").write_bytes(bytes(10_001))
    assert "d.png: larger than 10,000 bytes" in load_image_folder(folder, 16).notice
    path = _zip(folder / "x.zip", {"a.png": _picture(), "d.png": os.urandom(10_001)})
    assert "d.png: unpacks to more than 10,000 bytes" in load_image_folder(path, 16).notice


def test_picture_beyond_the_pixel_limit_is_not_decoded(folder, monkeypatch):
    (folder / "d.png").write_bytes(_picture(100, 101))
    decoded = []
    fit = image_folder.ImageOps.fit
    monkeypatch.setattr(image_folder.ImageOps, "fit", lambda image, *a: decoded.append(image.size) or fit(image, *a))
    notice = load_image_folder(folder, 16, max_pixels=10_000).notice
    assert "100 x 101 pixels exceed max_pixels=10,000" in notice
    assert len(decoded) == 3 and (100, 101) not in decoded


def test_picture_that_claims_to_be_huge_is_refused(folder):
    """A PNG of a few bytes whose header says 60,000 x 60,000: Pillow's own limit or ours."""
    huge = bytearray(_picture())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zipfile.crc32(huge[12:29]).to_bytes(4, "big")
    (folder / "d.png").write_bytes(huge)
    loaded = load_image_folder(folder, 16)
    assert len(loaded.images) == 3 and "d.png" in loaded.notice and "pixels" in loaded.notice


def test_formats_that_start_other_programs_are_not_opened(folder):
    (folder / "d.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert "d.png: cannot identify" in load_image_folder(folder, 16).notice


# ---- room


@pytest.fixture
def little_memory(monkeypatch):
    """Half of the main memory has room for two images of 16x16."""
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 4096}[name], raising=False)


def test_images_beyond_main_memory_are_read_from_a_file_that_leaves_no_trace(folder, tmp_path, monkeypatch, request):
    in_memory = load_image_folder(folder, 16)
    request.getfixturevalue("little_memory")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mapped = load_image_folder(folder, 16)
    assert "3 images of 16x16 take 0.00 GB, more than half of the main memory" in mapped.notice
    assert f"read from a file in {tmp_path}" in mapped.notice and not in_memory.notice
    torch.testing.assert_close(mapped.images, in_memory.images, rtol=0, atol=0)
    assert not list(tmp_path.glob("gan-images-*"))
    assert not load_image_folder(folder, 16, limit=2).notice


def test_broken_images_are_left_out_of_the_file_too(folder, little_memory):
    (folder / "aa.png").write_bytes(b"no picture")
    found = load_image_folder(folder, 16)
    assert "1 of 4 images" in found.notice and "half of the main memory" in found.notice
    (folder / "aa.png").unlink()
    torch.testing.assert_close(found.images, load_image_folder(folder, 16).images, rtol=0, atol=0)


def test_what_fits_nowhere_names_sizes_and_a_limit_that_does(folder, little_memory, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"3 images of 16x16 take .* main memory .* is free in .*limit=2"):
        load_image_folder(folder, 16)
    assert len(load_image_folder(folder, 16, limit=2).images) == 2


def test_a_full_gpu_leaves_images_in_main_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    images, place, notice = image_folder._make_room(3, 16, torch.device("cuda:0"))
    assert place.type == images.device.type == "cpu" and images.shape == (3, 3, 16, 16)
    assert "80 % of the free memory of cuda:0" in notice and "each batch is moved" in notice
    assert image_folder._make_room(1, 16, torch.device("cuda:0"))[1:] == (torch.device("cuda:0"), "")


# ---- known places of faces


@pytest.fixture
def data_root(monkeypatch, tmp_path):
    monkeypatch.setattr(data_files, "DATA_FOLDER", tmp_path / "data")
    monkeypatch.setenv("GAN_DATA", str(tmp_path))
    return tmp_path


def test_no_faces_give_none(data_root, monkeypatch):
    assert load_faces(32) is None
    monkeypatch.delenv("GAN_DATA")
    assert load_faces(32) is None


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("celeba/img_align_celeba/000001.jpg", "celeba"),
        ("lfw-py/lfw_funneled/A_Name/A_Name_0001.jpg", "lfw"),
        ("lfw_home/lfw_funneled/A_Name/A_Name_0001.jpg", "lfw"),
    ],
)
@pytest.mark.parametrize("under", ["", "data"])
def test_faces_are_found_in_the_known_folders(data_root, place, name, under):
    path = data_root / under / place
    path.parent.mkdir(parents=True)
    path.write_bytes(_picture(178, 218, kind="JPEG"))
    faces = load_faces(32)
    assert faces.name == name and faces.images.shape == (1, 3, 32, 32)


def test_celeba_zip_comes_before_other_faces(data_root):
    (data_root / "celeba").mkdir()
    (data_root / "LFW").mkdir()
    _zip(data_root / "celeba" / "img_align_celeba.zip", {"img_align_celeba/000001.jpg": _picture()})
    _zip(data_root / "LFW" / "a.zip", {"1.jpg": _picture()})
    assert load_faces(32).name == "celeba"


def test_zip_with_large_enough_images_is_chosen_then_the_fullest(data_root):
    (data_root / "LFW").mkdir()
    small = {f"{i}.jpg": _picture(64, 64) for i in range(5)}
    large = {f"{i}.jpg": _picture(128, 128) for i in range(3)}
    _zip(data_root / "LFW" / "small.zip", small)
    _zip(data_root / "LFW" / "large.zip", large)
    (data_root / "LFW" / "damaged.zip").write_bytes(b"PK")
    assert [len(load_faces(size).images) for size in (32, 64, 65, 128, 256)] == [5, 5, 3, 3, 3]


@pytest.mark.skipif(not os.environ.get("GAN_DATA"), reason="GAN_DATA is not set")
def test_real_faces_load_where_present():
    faces = load_faces(32, limit=50)
    if faces is None:
        pytest.skip("GAN_DATA holds no faces")
    assert faces.images.shape == (50, 3, 32, 32) and faces.images.dtype == torch.uint8
    assert 40 < faces.images.float().mean() < 215 and faces.images.float().std() > 20
