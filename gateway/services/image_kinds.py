"""Kinds of images, told by their first bytes."""

import base64

MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
KINDS = "PNG, JPEG, GIF or WebP"
WEB = ("http://", "https://")  # how the address of an image begins


def kind_of(data: bytes) -> str | None:
    """Returns an image's media type by its first bytes; None for what is none."""
    kind = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), None)
    return None if kind == "image/webp" and data[8:12] != b"WEBP" else kind


def as_data_url(data: bytes) -> str | None:
    """Returns an image as a `data:` URL; None for what is none."""
    kind = kind_of(data)
    return kind and f"data:{kind};base64,{base64.b64encode(data).decode()}"
