"""The photographs of faces for notebook 06: where they are looked for, which train and which are held out."""

import io
from pathlib import Path

from PIL import Image

from helpers.data.files import DataError, data_folders
from helpers.data.folder import load_image_folder, open_collection
from helpers.data.images import ImageSet

HELD_OUT = 2000  # photographs that no network sees in training; also the number of samples that are compared


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
            with open_collection(path) as (names, read), Image.open(io.BytesIO(read(names[0]))) as image:
                return min(*image.size, size), len(names)
        except (OSError, DataError):
            return 0, 0

    return sorted(folder.glob("*.zip"), key=fitness, reverse=True)


def load_faces_split(size: int, train: bool = True, device="cpu", limit: int | None = None) -> ImageSet:
    """The faces of `load_faces` without the last 2,000, or with ``train=False`` these alone.

    Files are in alphabetical order. ``limit``: at most so many, from the start of the part.
    Raises DataError where there are no faces, or fewer than 4,000, too few to hold any out.
    """
    faces = load_faces(size, device=device)
    if faces is None:
        raise DataError("no faces were found; data/README.md says where they are looked for")
    if len(faces.images) < 2 * HELD_OUT:
        raise DataError(f"{faces.name} holds {len(faces.images):,} images, but at least {2 * HELD_OUT:,} are needed")
    part = slice(None, -HELD_OUT) if train else slice(-HELD_OUT, None)
    return ImageSet(faces.name, faces.images[part][:limit], faces.labels[part][:limit], faces.notice)
