"""Arrays and TIFFs of several pages as images: what is read, refused, and how it is converted."""

import io
import pickle
import tracemalloc
from random import Random

import numpy as np
import pytest
from PIL import Image

from ganscale.data.arrays import open_any, parse_npy, resize_array, to_array
from ganscale.data.images import open_image, resize
from tests.fuzz.mutations import mutated

RNG = np.random.default_rng(0)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def tiff(pages: list[np.ndarray], **options: object) -> bytes:
    buffer = io.BytesIO()
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(buffer, "TIFF", save_all=True, append_images=others, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
def test_an_array_is_an_image_whichever_axis_has_its_channels(dtype: str) -> None:
    image = RNG.integers(0, 256, (6, 9, 4)).astype(dtype)
    for stored in (image, np.moveaxis(image, 2, 0), np.asfortranarray(image)):
        found = parse_npy(npy(stored))
        assert found.dtype == (np.uint8 if dtype == "u1" else np.uint16)
        assert np.array_equal(found, image)
    assert np.array_equal(parse_npy(npy(image[:, :, 0]))[:, :, 0], image[:, :, 0])
    version_2 = npy(image)
    version_2 = b"\x93NUMPY\2\0" + version_2[8:10] + b"\0\0" + version_2[10:]
    assert np.array_equal(parse_npy(version_2), np.load(io.BytesIO(version_2)))


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(np.zeros((4, 4), np.float32)), "uint8 or uint16"),
        (npy(np.zeros((4, 4), np.int16)), "uint8 or uint16"),
        (npy(np.zeros((2, 3, 4, 4), np.uint8)), "uint8 or uint16"),
        (npy(np.zeros((0, 4), np.uint8)), "damaged"),
        (npy(np.zeros((80, 90, 70), np.uint8)), "at most 64"),
        (npy(np.zeros((4, 4), np.uint16))[:-1], "damaged .npy file: 31 bytes"),
        (npy(np.zeros((4, 4), np.uint8)) + b"x", "damaged"),
        (npy(np.zeros((4, 4), np.uint8)).replace(b"(4, 4)", b"(9**9"), "uint8 or uint16"),
        (b"\x93NUMPY\1\0v\0" + pickle.dumps(Harm()), "uint8 or uint16"),
    ],
)
def test_arrays_that_are_no_images(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        open_any(content)


def test_an_object_array_is_not_unpickled() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Harm()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="uint8 or uint16"):
        open_any(buffer.getvalue())


def test_sizes_are_checked_before_memory_is_taken() -> None:
    announced = npy(np.zeros((4, 4), np.uint8)).replace(b"(4, 4), }        ", b"(40000, 40000), }")
    bomb = tiff([np.zeros((900, 900), np.uint8)] * 60, compression="tiff_deflate")
    tracemalloc.start()
    for content in (announced, bomb):
        with pytest.raises(ValueError, match=r"exceed data\.max_pixels"):
            open_any(content, max_pixels=10**6)
    assert tracemalloc.get_traced_memory()[1] < 5 * 10**6
    tracemalloc.stop()
    with pytest.raises(ValueError, match="exceed data"):
        parse_npy(npy(np.zeros((40, 30), np.uint8)), max_pixels=1000)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_pages_of_a_tiff_are_channels(dtype: type) -> None:
    pages = list(RNG.integers(0, 256, (5, 6, 9)).astype(dtype))
    assert np.array_equal(open_any(tiff(pages)), np.stack(pages, axis=2))
    # A first page with smaller copies, pages in colour, and one page are pictures.
    colour = [np.zeros((6, 9, 3), np.uint8)] * 2
    for others in ([pages[0], pages[1][:3, :4]], colour, pages[:1]):
        assert isinstance(open_any(tiff(others)), Image.Image)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")
def test_damaged_files_end_in_an_error_or_in_an_image() -> None:
    """No other exception, no crash, and no array of another kind."""
    image = RNG.integers(0, 2**16, (8, 6, 5), np.uint16)
    sound = [npy(image), npy(image[:, :, 0]), tiff(list(np.moveaxis(image, 2, 0)))]
    sound.append(tiff(list(np.moveaxis(image >> 8, 2, 0).astype(np.uint8)), compression="tiff_lzw"))
    random, errors = Random(0), 0
    for trial in range(600):
        try:
            found = open_any(mutated(sound[trial % 4], random), max_pixels=10**6)
        except ValueError:
            errors += 1
            continue
        if not isinstance(found, Image.Image):
            assert found.dtype in (np.uint8, np.uint16)
            assert found.ndim == 3
    assert 100 < errors < 600


def test_bits_and_channels_are_converted_as_they_are_shown() -> None:
    deep = RNG.integers(0, 2**16, (4, 5), np.uint16)
    deep[0, :3] = 0, 65535, 128
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "PNG")
    picture = open_image(buffer.getvalue())
    assert np.array_equal(to_array(picture, 1, 16)[:, :, 0], deep)
    assert np.array_equal(to_array(picture, 3, 16), np.stack([deep] * 3, axis=2))
    eight = to_array(picture, 1, 8)
    assert eight[0, :3, 0].tolist() == [0, 255, 0]
    assert np.array_equal(to_array(eight, 1, 16), eight.astype(np.uint16) * 257)
    assert np.array_equal(to_array(deep[:, :, None], 1, 8), eight)
    rgba = RNG.integers(0, 256, (4, 5, 4), np.uint8)
    assert np.array_equal(to_array(Image.fromarray(rgba), 4, 8), rgba)
    for image, channels, reason in (
        (rgba, 3, "it has 4 channels"),
        (Image.fromarray(rgba), 5, "a picture, in a dataset of 5"),
        (picture, 4, "no alpha"),
    ):
        with pytest.raises(ValueError, match=reason):
            to_array(image, channels, 8)


def test_16_bit_colour_is_refused_rather_than_halved() -> None:
    from ganscale.data.reading.png import encode

    colour = open_image(encode(RNG.integers(0, 2**16, (4, 5, 3), np.uint16)))
    assert to_array(colour, 3, 8).dtype == np.uint8
    with pytest.raises(ValueError, match="16-bit colour"):
        to_array(colour, 3, 16)


def test_each_channel_is_resized_as_a_picture_is() -> None:
    image = RNG.integers(0, 256, (20, 30, 3), np.uint8)
    for crop in (True, False):
        small = resize_array(image, (8, 8), crop)
        shown = np.asarray(resize(Image.fromarray(image), (8, 8), crop))
        assert np.abs(small.astype(int) - shown).max() <= 1  # Pillow rounds between its two passes
        deep = resize_array(image.astype(np.uint16) * 257, (8, 8), crop)
        assert deep.dtype == np.uint16
        assert np.abs(deep / 257 - small).max() <= 0.51
