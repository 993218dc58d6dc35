"""Formats of image files: which ones can be decoded, and what others are called, by their endings and first bytes."""

MAGIC_BYTES = 32
"""Number of first bytes that show a file's format."""

DECODED = frozenset("avif bmp dib gif ico jfif jp2 jpe jpeg jpg mpo pcx png ppm sgi tga tif tiff webp".split())
"""Endings of formats that can be decoded."""

OTHERS = {
    "heic": "HEIC, which needs the package pillow-heif: pip install 'vlmixer[heif]'",
    "heif": "HEIF, which needs the package pillow-heif: pip install 'vlmixer[heif]'",
    "avif": "AVIF, which needs a Pillow with AVIF: pip install 'pillow>=11.3'",
    "dng": "DNG, a raw photo: convert it to JPEG or PNG",
    "psd": "PSD, a Photoshop file: convert it to JPEG or PNG",
    "svg": "SVG, a vector drawing: convert it to PNG",
    "pdf": "PDF, a document: convert its pages to JPEG or PNG",
    "jxl": "JPEG XL: convert it to JPEG or PNG",
    "mp4": "MP4, a video: extract frames as JPEG or PNG",
    "zip": "a ZIP archive: unpack it",
    "gz": "packed with gzip: unpack it",
    "apple": "the resource fork of a Mac file, without an image",
    "lfs": "a pointer of Git LFS: run git lfs pull",
    "html": "HTML, a web page in place of an image",
}
"""What files are that cannot be decoded, and what to do, by format."""

ENDINGS = DECODED | {"heic", "heif", "dng", "psd", "svg", "jxl"}
"""Endings of images."""

_MAGIC = (
    (0, b"\xff\xd8\xff", "jpg"), (0, b"\x89PNG\r\n\x1a\n", "png"), (0, b"GIF8", "gif"), (0, b"BM", "bmp"),
    (8, b"WEBP", "webp"), (0, b"II*\0", "tif"), (0, b"MM\0*", "tif"), (0, b"\0\0\x01\0", "ico"),
    (4, b"jP  \r\n", "jp2"), (4, b"ftypavif", "avif"), (4, b"ftypavis", "avif"),
    (4, b"ftypheic", "heic"), (4, b"ftypheix", "heic"), (4, b"ftyphevc", "heic"), (4, b"ftypmif1", "heif"),
    (4, b"ftypmsf1", "heif"), (4, b"ftyp", "mp4"), (0, b"8BPS", "psd"), (0, b"%PDF", "pdf"),
    (0, b"\xff\x0a", "jxl"), (4, b"JXL ", "jxl"), (0, b"PK\x03\x04", "zip"), (0, b"\x1f\x8b", "gz"),
    (0, b"\0\x05\x16\x07", "apple"), (0, b"version https://git-lfs", "lfs"), (0, b"<svg", "svg"),
    (0, b"<html", "html"), (0, b"<!doctype html", "html"), (0, b"<!DOCTYPE html", "html"),
)  # fmt: skip


def format_of(data: bytes) -> str:
    """The format that the first bytes show, a key of OTHERS or an ending of DECODED; "" if they show none."""
    return next((name for place, magic, name in _MAGIC if data[place : place + len(magic)] == magic), "")


def looks_like_image(data: bytes) -> bool:
    """Whether the first bytes are those of an image that can be decoded, or of one of ENDINGS."""
    return format_of(data) in ENDINGS


def describe_undecodable(data: bytes) -> str:
    """What data is that cannot be decoded, for people."""
    return OTHERS.get(format_of(data)) or f"begins with {data[:8]!r}"


def is_image_name(name: str) -> bool:
    """Whether the name has the ending of an image, and is not hidden (.name), nor in a Mac archive's __MACOSX."""
    return not is_hidden(name) and name.rpartition(".")[2].lower() in ENDINGS


def is_hidden(name: str) -> bool:
    """Whether it is a file that systems leave in folders: .DS_Store, ._photo.jpg, __MACOSX/…, Thumbs.db."""
    *folders, base = name.split("/")
    return base.startswith(".") or "__MACOSX" in folders or base.lower() in ("thumbs.db", "desktop.ini")
