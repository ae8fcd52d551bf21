"""Photographs from any folder or zip as one uint8 tensor on the device: cropped, resized, decoded once.

Files may come from strangers: nothing is unpacked to disk, links out of the folder are not followed, and the
size of every file, of what it unpacks to and of the picture in it is bounded. What cannot be read is skipped
and counted in `ImageSet.notice`.
"""

import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from helpers.data import ImageSet, check_count
from helpers.data_files import DataError, data_folders
from helpers.session import pick_device

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
    Raises DataError when there is no readable image or when all of them do not fit on ``device``.
    """
    size, max_pixels = check_count("size", size), check_count("max_pixels", max_pixels)
    if limit is not None:
        limit = check_count("limit", limit)
    device, path = pick_device(device), Path(path)
    with _open_collection(path) as (names, read):
        names = names[:limit]
        _check_fits(len(names), size, device)
        images = torch.empty(len(names), 3, size, size, dtype=torch.uint8)
        problems = _decode_into(images, names, read, max_pixels)
    broken = [name for name, problem in zip(names, problems, strict=True) if problem]
    first_problem = next(filter(None, problems), "")
    if len(broken) == len(names):
        raise DataError(f"{path} holds no readable image: all {len(names):,} failed, the first with {first_problem}")
    notice = ""
    if broken:
        images = images[torch.tensor([not problem for problem in problems])]
        counted = f"{len(broken):,} of {len(names):,} images in {path.name} were skipped"
        notice = f"{counted}, the first {broken[0]}: {first_problem}"
    return ImageSet(path.stem, images.to(device), torch.zeros(len(images), dtype=torch.int64, device=device), notice)


def load_faces(size: int, *, device="cpu", limit: int | None = None) -> ImageSet | None:
    """CelebA, else Labeled Faces in the Wild, as `load_image_folder` loads them; None if absent.

    Looked for in GAN_DATA, then in `data/`: torchvision's ``celeba/img_align_celeba`` (folder or .zip) and
    ``lfw-py/lfw_funneled``, scikit-learn's ``lfw_home/lfw_funneled``, and ``LFW/*.zip``.
    """
    for folder in data_folders():
        places = [
            ("celeba", folder / "celeba" / "img_align_celeba"),
            ("celeba", folder / "celeba" / "img_align_celeba.zip"),
            ("lfw", folder / "lfw-py" / "lfw_funneled"),
            ("lfw", folder / "lfw_home" / "lfw_funneled"),
            *(("lfw", path) for path in _most_fitting_first(folder / "LFW", size)),
        ]
        for name, place in places:
            if place.exists():
                faces = load_image_folder(place, size, device=device, limit=limit)
                return ImageSet(name, faces.images, faces.labels, faces.notice)
    return None


def _most_fitting_first(folder: Path, size: int) -> list[Path]:
    """The zips of a folder: those with images of at least ``size`` pixels first, among them the fullest."""

    def fitness(path):
        try:
            with _open_collection(path) as (names, read), Image.open(io.BytesIO(read(names[0]))) as image:
                return min(*image.size, size), len(names)
        except (OSError, DataError):
            return 0, 0

    return sorted(folder.glob("*.zip"), key=fitness, reverse=True)


@contextmanager
def _open_collection(path: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
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
    from tqdm import tqdm

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


def _check_fits(count: int, size: int, device: torch.device) -> None:
    """DataError if ``count`` images would take over half of the main memory or 80 % of free GPU memory."""
    need = count * 3 * size * size
    rooms = {}
    if hasattr(os, "sysconf"):
        rooms["half of the main memory"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    if device.type == "cuda":
        rooms[f"80 % of the free memory of {device}"] = torch.cuda.mem_get_info(device)[0] * 4 // 5
    for place, room in rooms.items():
        if need > room:
            raise DataError(
                f"{count:,} images of {size}x{size} need {need / 1e9:.2f} GB, which is more than {place} "
                f"({room / 1e9:.2f} GB); pass limit={room // (3 * size * size)} or a smaller size"
            )
