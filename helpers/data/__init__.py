"""Data sets as tensors on the device: images, points in the plane, any folder of photographs, faces, one catalogue.

``load_images("mnist")`` finds a set in a local folder or downloads it (``files``); ``catalogue`` names every set that
runs are recorded on.
"""

from helpers.data.faces import load_faces, load_faces_split
from helpers.data.files import DataError
from helpers.data.folder import load_image_folder
from helpers.data.images import ImageSet, load_images, pad, resize, to_unit_range
from helpers.data.points import TOY_STD, grid_of_gaussians, mode_centres, ring_of_gaussians, stacked_mnist
