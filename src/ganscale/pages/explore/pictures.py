"""Images as bytes: small ones for the page, and files to save."""

import base64
import io
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from PIL import Image

from ganscale.monitoring.grids import grid
from ganscale.pages.explore.subject import CannotShowError, Shown

LOSSLESS_SIDE = 96  # pixels; images up to this side go to the page as PNG, larger ones as WebP
WEBP_QUALITY = 88
FRAME_MS = 40
SAVED_SIDE = 256  # pixels; smaller frames are enlarged at least to this side


def picture(image: Shown) -> Image.Image:
    """Return an image (H, W, 1 or 3) as one of Pillow."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def data_uri(image: Shown, side: int | None = None) -> str:
    """Return an image as the address of itself; it is reduced to `side` pixels if it is larger."""
    small = picture(image)
    longest = max(small.size)
    if side is not None and longest > side:
        size = [max(1, round(length * side / longest)) for length in small.size]
        small = small.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "png" if max(small.size) <= LOSSLESS_SIDE else "webp"
    if kind == "png":
        small.save(buffer, "PNG")
    else:
        small.save(buffer, "WEBP", quality=WEBP_QUALITY, method=0)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def stack(images: Sequence[Shown]) -> Shown:
    """Return images (H, W, C) as one array (N, H, W, C)."""
    return np.stack(images)


def png_of_grid(images: Shown, columns: int | None) -> bytes:
    """Return a grid of images as a PNG file, as `ganscale sample --grid` writes it."""
    buffer = io.BytesIO()
    grid(images, columns).save(buffer, "PNG")
    return buffer.getvalue()


def png(image: Shown) -> bytes:
    """Return one image as a PNG file, pixel for pixel."""
    buffer = io.BytesIO()
    picture(image).save(buffer, "PNG")
    return buffer.getvalue()


def gif(frames: Shown) -> bytes:
    """Return frames (N, H, W, 1 or 3) as a looping GIF."""
    pictures = [picture(frame) for frame in _enlarged(frames)]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"duration": FRAME_MS, "loop": 0, "save_all": True}
    pictures[0].save(buffer, "GIF", append_images=pictures[1:], **options)
    return buffer.getvalue()


def writes_mp4() -> bool:
    """Return whether PyAV, which brings its own encoder, is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def mp4(frames: Shown) -> bytes:
    """Return frames (N, H, W, 1 or 3) as a film in H.264, which all browsers play."""
    try:
        import av
    except ImportError:
        raise CannotShowError("MP4 needs PyAV: pip install 'ganscale[pages]'.") from None
    even = _enlarged(frames)
    even = even[:, : even.shape[1] // 2 * 2, : even.shape[2] // 2 * 2]  # H.264 halves the colours
    if even.shape[3] == 1:
        even = even.repeat(3, 3)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=1000 // FRAME_MS, options={"crf": "16"})
        stream.height, stream.width = even.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in even:
            content = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            film.mux(stream.encode(content))
        film.mux(stream.encode())
    return buffer.getvalue()


def _enlarged(frames: Shown) -> Shown:
    """Enlarge small frames by an integer, so that every pixel stays a square."""
    factor = ceil(SAVED_SIDE / max(frames.shape[1:3]))
    return frames.repeat(factor, 1).repeat(factor, 2)
