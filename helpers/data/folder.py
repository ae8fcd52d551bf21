"""Photographs from any folder or zip as one uint8 tensor: cropped, resized, decoded once. It lies on the device if it
fits there, else in main memory, else in a temporary file from which batches are read.

Files may come from strangers: nothing is unpacked to disk, links out of the folder are not followed, and the
size of every file, of what it unpacks to and of the picture in it is bounded. What cannot be read is skipped
and counted in `ImageSet.notice`.
"""

import io
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from helpers.data.files import DataError
from helpers.data.images import ImageSet, check_count
from helpers.device import pick_device

# The formats that Pillow decodes by itself; others (EPS) would start outside programs.
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
LARGEST_FILE = 64 * 2**20
LARGEST_RATIO = 100  # of all that a zip unpacks to against its own size; photographs stay near 1


def load_image_folder(
    path, size: int, *, device="cpu", limit: int | None = None, max_pixels: int = 50_000_000
) -> ImageSet:
    """Images of a folder (with its subfolders) or zip: (N, 3, size, size) uint8 in 0..255, labels all zero.

    Each is cropped to its central square and resized with antialiasing. limit: only the first ``limit`` files
    in alphabetical order. max_pixels: larger pictures are skipped undecoded, as broken ones are.
    Images that do not fit on ``device`` stay in main memory or in a temporary file, and ``notice`` says so; give
    the device to the Trainer then. Raises DataError when no image is readable or even the disk is too small.
    """
    size, max_pixels = check_count("size", size), check_count("max_pixels", max_pixels)
    if limit is not None:
        limit = check_count("limit", limit)
    device, path = pick_device(device), Path(path)
    with open_collection(path) as (names, read):
        names = names[:limit]
        images, device, notice = _make_room(len(names), size, device)
        problems = _decode_into(images, names, read, max_pixels)
    broken = [name for name, problem in zip(names, problems, strict=True) if problem]
    first_problem = next(filter(None, problems), "")
    if len(broken) == len(names):
        raise DataError(f"{path} holds no readable image: all {len(names):,} failed, the first with {first_problem}")
    if broken:
        readable = [row for row, problem in enumerate(problems) if not problem]
        for new, old in enumerate(readable):  # in place: a copy might not fit
            images[new] = images[old]
        images = images[: len(readable)]
        counted = f"{len(broken):,} of {len(names):,} images in {path.name} were skipped"
        notice = "; ".join(filter(None, (f"{counted}, the first {broken[0]}: {first_problem}", notice)))
    return ImageSet(path.stem, images.to(device), torch.zeros(len(images), dtype=torch.int64, device=device), notice)


@contextmanager
def open_collection(path: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """The sorted names of all image files in a folder or zip, and a function that reads one of them."""
    if path.is_dir():
        names, read = _image_names_in(path), lambda name: _read_file(path / name)
        yield _not_empty(names, path), read
        return
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is neither a folder nor a readable zip ({error}); check the path") from error
    with archive:
        members = {member.filename: member for member in archive.infolist() if _is_image_name(member.filename)}
        unpacked = sum(member.file_size for member in members.values())
        if unpacked > LARGEST_RATIO * path.stat().st_size:
            raise DataError(f"{path} would unpack to {unpacked:,} bytes, over {LARGEST_RATIO} times its size; refused")
        yield _not_empty(sorted(members), path), lambda name: _read_member(archive, members[name])


def _not_empty(names: list[str], path: Path) -> list[str]:
    if not names:
        raise DataError(f"{path} holds no image; looked for files that end in {', '.join(FORMATS)}")
    return names


def _is_image_name(name: str) -> bool:
    # "._a.jpg" is macOS's note about "a.jpg", not a picture.
    filename = name.rsplit("/", 1)[-1]
    return not filename.startswith("._") and os.path.splitext(filename)[1].lower() in FORMATS


def _image_names_in(folder: Path) -> list[str]:
    root = os.path.realpath(folder)
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names if _is_image_name(name)]
    inside = [file for file in found if Path(os.path.realpath(file)).is_relative_to(root)]
    return sorted(file.relative_to(folder).as_posix() for file in inside)


def _read_file(path: Path) -> bytes:
    # A pipe or device with an image's name would block or never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"larger than {LARGEST_FILE:,} bytes")
    return path.read_bytes()


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > LARGEST_FILE:
        raise ValueError(f"unpacks to more than {LARGEST_FILE:,} bytes")
    return archive.read(member)


def _decode_into(images: torch.Tensor, names: list[str], read, max_pixels: int) -> list[str]:
    """Fill ``images`` row by row; returns one text for each name, empty if all went well."""
    size = images.shape[-1]
    rows = images.numpy()

    def decode(row):
        # Damaged pictures make Pillow raise nearly any exception; each costs that one image only.
        try:
            with Image.open(io.BytesIO(read(names[row])), formats=sorted(set(FORMATS.values()))) as image:
                if image.width * image.height > max_pixels:
                    return f"{image.width:,} x {image.height:,} pixels exceed max_pixels={max_pixels:,}"
                upright = ImageOps.exif_transpose(image).convert("RGB")
                square = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
            rows[row] = np.asarray(square).transpose(2, 0, 1)
        except Exception as error:
            return str(error) or type(error).__name__
        return ""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(tqdm(pool.map(decode, range(len(names))), total=len(names), desc="decoding", delay=10))


def _make_room(count: int, size: int, device: torch.device) -> tuple[torch.Tensor, torch.device, str]:
    """A tensor to decode into, the device that the images will stay on, and what the reader should know about it.

    They may take 80 % of a GPU's free memory, half of the main memory, or what is free in the temporary folder.
    """
    shape, notice = (count, 3, size, size), ""
    need = prod(shape)
    takes = f"{count:,} images of {size}x{size} take {need / 1e9:.2f} GB, more than"
    if device.type == "cuda" and need > (room := torch.cuda.mem_get_info(device)[0] * 4 // 5):
        notice = f"{takes} 80 % of the free memory of {device} ({room / 1e9:.2f} GB); each batch is moved there"
        device = torch.device("cpu")
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else need
    if need <= half:
        return torch.empty(shape, dtype=torch.uint8), device, notice
    folder = tempfile.gettempdir()
    if need > (room := shutil.disk_usage(folder).free):
        limit = max(half, room) // (3 * size * size)
        raise DataError(
            f"{takes} half of the main memory ({half / 1e9:.2f} GB) and than is free in {folder} "
            f"({room / 1e9:.2f} GB); pass limit={limit} or a smaller size, or set TMPDIR to a larger disk"
        )
    if device.type == "cpu":
        notice = f"{takes} half of the main memory ({half / 1e9:.2f} GB); batches are read from a file in {folder}"
    return _mapped(shape), device, notice


def _mapped(shape: tuple[int, ...]) -> torch.Tensor:
    """A uint8 tensor in a temporary file, of which the system keeps in memory what was used last."""
    handle, path = tempfile.mkstemp(prefix="gan-images-")
    try:
        if hasattr(os, "posix_fallocate"):  # else a disk that fills up later would end the process
            os.posix_fallocate(handle, 0, prod(shape))
        return torch.from_file(path, shared=True, size=prod(shape), dtype=torch.uint8).view(shape)
    finally:
        os.close(handle)
        with suppress(PermissionError):  # Windows keeps a file that is in use; elsewhere it goes with the tensor
            os.unlink(path)
