"""Image trees: what the pixels become, what is kept, and which trees are taken."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional

from cifar_exp import data
from cifar_exp.data.dataset import Dataset
from cifar_exp.data.sources import image_files
from cifar_exp.errors import RequestError

Load = Callable[..., Dataset]
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture
def load(image_tree: Path, tmp_path: Path) -> Load:
    """Loads ``image_tree`` with an empty cache folder of the test's own."""
    return partial(data.image_folder, root=str(image_tree), cache=str(tmp_path / "cache"), image_size=32)


@pytest.fixture
def load_picture(image_tree: Path, load: Load) -> Callable[..., np.ndarray]:
    """Saves a picture as the tree's first test image and returns it as loaded."""

    def loaded(picture: Image.Image, name: str = "0.png", image_size: int = 32, **options: object) -> np.ndarray:
        picture.save(image_tree / "test" / "cat" / name, **options)
        test = load(image_size=image_size).test
        (position,) = np.flatnonzero(test.sources == f"test/cat/{name}")
        return test.images[position]

    return loaded


def test_order_labels_and_pixels(load: Load, image_tree: Path) -> None:
    dataset = load()
    expected = [f"train/{name}/{number:02}.png" for name in ("cat", "dog") for number in range(12)]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.sources.tolist() == expected
    assert dataset.train.labels.tolist() == [0] * 12 + [1] * 12
    for position in (0, 11, 12, 23):
        with Image.open(image_tree / expected[position]) as image:
            np.testing.assert_array_equal(dataset.train.images[position], np.asarray(image))


def test_nested_folders_belong_to_their_class(load: Load, image_tree: Path) -> None:
    nested = image_tree / "train" / "cat" / "more" / "deep"
    nested.mkdir(parents=True)
    shutil.copy(image_tree / "train" / "dog" / "00.png", nested / "x.png")
    train = load().train
    assert train.labels[train.sources == "train/cat/more/deep/x.png"].tolist() == [0]


def test_gray_and_black_and_white_become_three_equal_channels(load_picture: Callable[..., np.ndarray]) -> None:
    gray = NOISE[:, :, 0]
    np.testing.assert_array_equal(load_picture(Image.fromarray(gray)), np.stack([gray] * 3, axis=2))
    np.testing.assert_array_equal(load_picture(Image.fromarray(gray > 127))[:, :, 1], (gray > 127) * np.uint8(255))


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The formula of compositing over white."""
    opaque = alpha[..., None] / 255
    return colours * opaque + 255 * (1 - opaque)


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255, 255])])
def test_palette_becomes_its_colours(load_picture: Callable[..., np.ndarray], transparency: object) -> None:
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]], np.uint8)
    alpha = np.array({None: [255] * 4, 1: [255, 0, 255, 255]}.get(transparency, [0, 128, 255, 255]), np.uint8)
    indices = NOISE[:, :, 0] % 4
    picture = Image.frombytes("P", (32, 32), indices.tobytes())
    picture.putpalette(palette.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    expected = on_white(palette[indices], alpha[indices])
    assert np.abs(load_picture(picture, **options) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(load_picture, mode, caplog) -> None:
    alpha = RNG.integers(0, 256, (32, 32), dtype=np.uint8)
    colours = NOISE if mode == "RGBA" else NOISE[:, :, :1]
    picture = Image.fromarray(np.concatenate([colours, alpha[..., None]], axis=2))
    with caplog.at_level("INFO"):
        assert np.abs(load_picture(picture) - on_white(colours, alpha)).max() <= 1
    assert caplog.messages.count("1 of 33 images: transparency composited on white") == 1


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, (H, W, 1 or 3) uint16, written by hand."""
    height, width, channels = pixels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2 if channels == 3 else 0, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_for_gray_and_colour_alike(load: Load, image_tree: Path, caplog, channels) -> None:
    pixels = RNG.integers(0, 65536, (32, 32, channels), dtype=np.uint16)
    (image_tree / "train" / "cat" / "00.png").write_bytes(png16(pixels))
    with caplog.at_level("INFO"):
        made = load().train.images[0]
    assert np.abs(made - pixels / 257).max() <= 1
    assert caplog.messages.count("1 of 32 images: 16 bits a channel scaled to 8") == 1


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, NOISE),
        (2, NOISE[:, ::-1]),
        (3, NOISE[::-1, ::-1]),
        (4, NOISE[::-1]),
        (5, NOISE.transpose(1, 0, 2)),
        (6, np.rot90(NOISE, -1)),
        (7, NOISE[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(NOISE, 1)),
    ],
)
def test_exif_orientation(load_picture: Callable[..., np.ndarray], orientation: int, upright: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(load_picture(Image.fromarray(NOISE), exif=exif), upright)


def test_odd_exif_does_not_matter(load_picture: Callable[..., np.ndarray]) -> None:
    """An exposure bias of -1/0 and a maker note that ends nowhere; the orientation is 6."""
    entries = struct.pack(">HHI4s", 0x0112, 3, 1, b"\0\6\0\0") + struct.pack(">HHII", 0x9204, 10, 1, 38)
    block = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + entries + struct.pack(">Iii", 0, -1, 0)
    upright = load_picture(Image.fromarray(NOISE), "0.webp", exif=block, lossless=True)
    np.testing.assert_array_equal(upright, np.rot90(NOISE, -1))
    np.testing.assert_array_equal(load_picture(Image.fromarray(NOISE), exif=b"Exif\0\0MM\0*\xff\xff"), NOISE)


@pytest.mark.parametrize(
    ("height", "width"), [(64, 96), (96, 64), (16, 24), (128, 128), (50, 37), (31, 50), (33, 32), (32, 37), (35, 32)]
)
def test_scaled_and_cropped_as_by_torchvision(load_picture: Callable[..., np.ndarray], height: int, width: int) -> None:
    picture = Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))
    expected = np.asarray(functional.center_crop(functional.resize(picture, 32), [32, 32])).astype(int)
    assert np.abs(load_picture(picture) - expected).max() <= 1


def test_large_jpeg_is_what_full_decoding_would_give(load_picture: Callable[..., np.ndarray], tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:512, 0:512]
    smooth = np.stack([rows / 2, columns / 2, 127 + 100 * np.sin(rows / 60)], axis=2).astype(np.uint8)
    picture = Image.fromarray(smooth)
    picture.save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as full:
        expected = np.asarray(functional.resize(full.convert("RGB"), [32, 32])).astype(int)
    assert np.abs(load_picture(picture, "0.jpg", quality=95) - expected).max() <= 4


def test_other_formats_and_sizes(load_picture: Callable[..., np.ndarray]) -> None:
    for name in ("a.bmp", "b.tif", "c.ppm"):
        np.testing.assert_array_equal(load_picture(Image.fromarray(NOISE), name), NOISE)
    assert load_picture(Image.fromarray(NOISE), "d.webp", image_size=24, lossless=True).shape == (24, 24, 3)


def test_several_processes_give_the_same(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = load()
    monkeypatch.setattr(image_files, "_CHUNK", 5)  # 24 images are then enough for more than one process
    together = load(cache=str(tmp_path / "other"))
    assert together.fingerprint == alone.fingerprint
    np.testing.assert_array_equal(together.train.images, alone.train.images)


def test_damaged_file_is_named_from_another_process(
    load: Load, image_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "_CHUNK", 5)
    damaged = image_tree / "train" / "dog" / "11.png"
    damaged.write_bytes(b"no image")
    with pytest.raises(RequestError, match=f"{damaged}: not a readable image"):
        load()


HIDDEN = (".DS_Store", "._00.png", "Thumbs.db", "thumbs.db", "desktop.ini", "Desktop.ini")


def test_files_of_file_managers_are_ignored(load: Load, image_tree: Path) -> None:
    before = load()
    for name in HIDDEN:
        (image_tree / "train" / "cat" / name).write_bytes(b"not an image")
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        for folder in (image_tree, image_tree / "test", image_tree / "test" / "cat"):
            (folder / name).mkdir()
            (folder / name / "x.png").write_bytes(b"not an image")
    (image_tree / "train" / "README.txt").write_text("not in a class")
    assert load().fingerprint == before.fingerprint


@pytest.mark.parametrize("content", [b"meow", b""])
def test_text_file_among_images(load: Load, image_tree: Path, content: bytes) -> None:
    path = image_tree / "test" / "dog" / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=f"{path}: not a readable image"):
        load()


@pytest.mark.parametrize("suffix", ["jpg", "avif", "webp", "png", "tif", "gif", "jp2"])
@pytest.mark.parametrize("spoil", ["cut", "zeros"])
def test_a_damaged_image_is_named(load: Load, image_tree: Path, suffix: str, spoil: str) -> None:
    path = image_tree / "train" / "cat" / f"cut.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    kept = len(content) // 4
    path.write_bytes(content[:kept] + (bytes(len(content) - kept) if spoil == "zeros" else b""))
    try:
        load()  # some decoders show what they have
    except RequestError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
    else:
        assert (suffix, spoil) not in {("jpg", "cut"), ("avif", "cut"), ("png", "cut")}


def test_ten_bad_files_are_named_and_all_counted(load: Load, image_tree: Path) -> None:
    paths = [image_tree / "train" / "cat" / f"{number:02}.png" for number in range(12)]
    for path in paths:
        path.write_bytes(b"no image")
    with pytest.raises(
        RequestError, match=r"^12 files cannot be used: .*; and 2 more; remove such files from the folder$"
    ) as caught:
        load()
    assert [str(path) in str(caught.value) for path in paths] == [True] * 10 + [False] * 2


def test_link_to_nowhere(load: Load, image_tree: Path) -> None:
    path = image_tree / "train" / "cat" / "link.png"
    path.symlink_to("nowhere.png")
    with pytest.raises(RequestError, match=str(path)):
        load()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_thirty_two_bits_a_channel(load: Load, image_tree: Path, dtype: type) -> None:
    path = image_tree / "train" / "cat" / "deep.tif"
    Image.fromarray(np.full((32, 32), 40_000, dtype)).save(path)
    with pytest.raises(RequestError, match=f"{path}: has more than 16 bits a channel"):
        load()


@pytest.mark.parametrize("side", [9_000, 11_000, 50_000])
def test_gigantic_image(load: Load, image_tree: Path, side: int) -> None:
    path = image_tree / "train" / "cat" / "bomb.png"
    Image.fromarray(NOISE).save(path)
    content = bytearray(path.read_bytes())
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + bytes(content[24:29])
    content[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(RequestError, match=rf"{path}: .*pixels"):
        load()


def test_class_folders_that_are_refused(load: Load, image_tree: Path) -> None:
    with pytest.raises(RequestError, match=r"data\.root=FOLDER"):
        load(root=None)
    empty = [image_tree / split / "emu" for split in ("train", "test")]
    for folder in empty:
        folder.mkdir()
        (folder / ".hidden").touch()
    with pytest.raises(RequestError, match=f"{empty[0]}: the class folder is empty"):
        load()
    for folder in empty:
        shutil.rmtree(folder)
    for folder in ("train/emu", "train/fox", "test/yak"):
        shutil.copytree(image_tree / "train" / "cat", image_tree / folder)
    with pytest.raises(RequestError, match="only one of them holds emu, fox, yak"):
        load()
    for folder in ("train/emu", "train/fox", "test/yak", "train/dog", "test/dog"):
        shutil.rmtree(image_tree / folder)
    with pytest.raises(RequestError, match="holds 1 class folder; a classifier needs at least 2"):
        load()


@pytest.mark.parametrize("name", ["größe 犬", os.fsdecode(b"d\xf6g")], ids=["not ASCII", "not UTF-8"])
def test_names_can_be_written_to_a_csv(load: Load, image_tree: Path, name: str) -> None:
    for split in ("train", "test"):
        (image_tree / split / "dog").rename(image_tree / split / name)
    (image_tree / "test" / "cat" / "00.png").rename(image_tree / "test" / "cat" / os.fsdecode(b"\xe9.png"))
    dataset = load()
    assert len(dataset.test) == 8
    for text in (*dataset.class_names, *dataset.test.sources):
        str(text).encode("utf-8")
    assert dataset.class_names[1] == name or not name.isprintable()
