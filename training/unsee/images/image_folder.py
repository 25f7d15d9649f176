"""Images that the user gives, in a folder."""

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from unsee.core.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
"""What a file is read as, whatever its name: Pillow would hand others to programs such as gs."""


def image_files(folder: Path) -> list[Path]:
    """Return the image files of `folder` in order of their names.

    Raises `InputError` if there is no such folder or it holds none.
    """
    if not folder.is_dir():
        raise InputError(f"the images folder {folder} does not exist")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(
            f"the folder {folder} holds no images; expected files named {', '.join(IMAGE_SUFFIXES)}"
        )
    return files


def load_images(folder: Path) -> list[Image.Image]:
    """Return every image of `folder` in order of its name, as RGB in its own size.

    Raises `InputError` like `image_files`, or if one cannot be read.
    """
    return [_read_image(file) for file in image_files(folder)]


def _read_image(file: Path) -> Image.Image:
    try:
        with Image.open(file, formats=_FORMATS) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be read as an image; remove or replace it") from error
