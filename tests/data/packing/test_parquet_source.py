"""Images in parquet files, of this machine and of the hub."""

import io
import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ganscale.config import Data
from ganscale.data.packing import hub_source, parquet_source
from ganscale.data.packing.copies import Copies, is_source
from ganscale.data.packing.file_sources import UnusableImageError
from ganscale.data.packing.hub_source import list_hub
from ganscale.data.packing.parquet_source import files_of_split
from ganscale.data.packing.sources import open_source
from ganscale.data.shards.manifest import load_manifest
from ganscale.errors import GanscaleError
from tests.data.packing.hub_of_datasets import CONVERTED, TOKEN, DatasetHub, serving_datasets
from tests.data.packing.test_copies import own, unseen


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (6, 5), shade).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(columns: dict[str, Sequence[Any]], features: dict[str, Any] | None = None) -> bytes:
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    if features is not None:
        about = {"info": {"features": features}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=2)
    return buffer.getvalue()


def images(*shades: int) -> list[dict[str, Any]]:
    return [{"bytes": png(shade), "path": None} for shade in shades]


def written(folder: Path, content: bytes, name: str = "a.parquet") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def opened(path: Path, **options: Any) -> Any:
    work = path.parent / f"{path.name}-work"
    return open_source(str(path), workspace=work, **options)


def test_images_and_labels_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_source, "ROWS_AT_ONCE", 2)
    rows = [*images(10, 20, 30), {"bytes": None, "path": "lost.png"}, *images(50)]
    kinds = {"image": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": ["no", "yes"]}}
    content = parquet({"image": rows, "kind": [0, 1, 1, None, 0]}, kinds)
    source = pickle.loads(pickle.dumps(opened(written(tmp_path, content))))
    assert source.classes == ("no", "yes")
    assert [source.label(i) for i in range(5)] == [0, 1, 1, -1, 0]
    assert [source.image(i).getpixel((0, 0)) for i in (4, 0, 2)] == [50, 10, 30]
    with pytest.raises(UnusableImageError, match=r"row 3 .* only the name of its file"):
        source.image(3)


def test_bare_binary_and_text_labels(tmp_path: Path) -> None:
    content = parquet({"id": [1, 2], "photo": [png(1), png(2)], "label": ["dog", "cat"]})
    source = opened(written(tmp_path, content))
    assert source.classes == ("cat", "dog")
    assert [source.label(i) for i in range(2)] == [1, 0]
    assert source.image(1).getpixel((0, 0)) == 2


def test_several_image_columns_ask_for_a_name(tmp_path: Path) -> None:
    path = written(tmp_path, parquet({"photo": images(1), "mask": images(2), "id": [7]}))
    with pytest.raises(GanscaleError, match=r"\(photo, mask\); name one with data.image_column"):
        opened(path)
    assert opened(path, image_column="mask").image(0).getpixel((0, 0)) == 2
    with pytest.raises(GanscaleError, match="'id' holds no images; its columns are photo, mask"):
        opened(path, image_column="id")
    with pytest.raises(GanscaleError, match="no column holds images"):
        opened(written(tmp_path, parquet({"id": [7]}), "b.parquet"))


def test_a_copied_file_is_not_read_again_and_a_changed_one_is(tmp_path: Path) -> None:
    path = written(tmp_path, parquet({"image": images(1)}))
    opened(path)
    rows = next((tmp_path / "a.parquet-work").glob("*.rows"))
    rows.write_bytes(bytes(rows.stat().st_size))
    with pytest.raises(UnusableImageError):
        opened(path).image(0)
    written(tmp_path, parquet({"image": images(9, 8)}))
    assert opened(path).image(0).getpixel((0, 0)) == 9


def test_splits_are_parts_of_names() -> None:
    sharded = [f"data/{split}-0000{i}-of-2.parquet" for split in ("test", "train") for i in (0, 1)]
    assert files_of_split("x", sharded, "train") == sharded[2:]
    assert files_of_split("x", ["a.parquet", "b.parquet", "README.md"], "train") == [
        "a.parquet",
        "b.parquet",
    ]
    with pytest.raises(GanscaleError, match=r"no split 'dev'; its files name test, train"):
        files_of_split("x", sharded, "dev")
    with pytest.raises(GanscaleError, match=r"several folders .*\(big, small\).*x/FOLDER"):
        files_of_split("x", ["big/train.parquet", "small/train.parquet"], "train")


def test_a_folder_of_parquet_is_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "cloned"
    written(folder, parquet({"image": images(1, 2)}), "data/train-00000-of-00002.parquet")
    written(folder, parquet({"image": images(3)}), "data/train-00001-of-00002.parquet")
    written(folder, parquet({"image": images(4)}), "data/test-00000-of-00001.parquet")
    assert is_source(str(folder), own(tmp_path, folder))
    copies = Copies(own(tmp_path, folder))
    assert load_manifest(copies.make(str(folder), unseen)).samples == 3
    test = Copies(own(tmp_path, folder, split="test"))
    assert load_manifest(test.make(str(folder), unseen)).samples == 1


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DatasetHub]:
    list_hub.cache_clear()
    with serving_datasets(monkeypatch, tmp_path) as hub:
        hub.put(
            "me/faces",
            {
                "README.md": b"# faces",
                "data/train-00000-of-00002.parquet": parquet({"image": images(1, 2)}),
                "data/train-00001-of-00002.parquet": parquet({"image": images(3)}),
                "data/test-00000-of-00001.parquet": parquet({"image": images(4)}),
            },
        )
        yield hub
    list_hub.cache_clear()


ADDRESS = "hf://datasets/me/faces"


def of_hub(folder: Path, address: str = ADDRESS, **values: object) -> Data:
    return own(folder, address, **values)


def test_a_dataset_of_the_hub_is_packed_once_a_commit(hub: DatasetHub, tmp_path: Path) -> None:
    copies = Copies(of_hub(tmp_path))
    assert is_source(ADDRESS, of_hub(tmp_path))
    copy = copies.make(ADDRESS, unseen)
    manifest = load_manifest(copy)
    assert (manifest.samples, manifest.source) == (3, "me/faces train")
    assert not (copy / ".source").exists()
    asked = len(hub.asked)
    list_hub.cache_clear()
    assert copies.make(ADDRESS, unseen) == copy
    assert hub.asked[asked:] == ["/api/datasets/me/faces"]
    hub.datasets["me/faces"]["main"]["data/train-00001-of-00002.parquet"] = parquet(
        {"image": images(3, 5)}
    )
    list_hub.cache_clear()
    assert load_manifest(copies.make(ADDRESS, unseen)).samples == 4


def test_a_hub_that_is_away_leaves_the_last_copy(
    hub: DatasetHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copies = Copies(of_hub(tmp_path))
    copy = copies.make(ADDRESS, unseen)
    hub.down = True
    list_hub.cache_clear()
    assert is_source(ADDRESS, of_hub(tmp_path))
    assert copies.make(ADDRESS, unseen) == copy
    assert f"using the copy in {copy}" in caplog.text
    with pytest.raises(GanscaleError, match="status 503"):
        Copies(of_hub(tmp_path, resolution=9)).make(ADDRESS, unseen)


def test_what_the_hub_has_converted_is_used(hub: DatasetHub, tmp_path: Path) -> None:
    hub.put("me/loose", {"0.jpg": b"pixels"})
    hub.put("me/loose", {"default/train/0000.parquet": parquet({"image": images(1)})}, CONVERTED)
    address = "hf://datasets/me/loose"
    copy = Copies(of_hub(tmp_path, address)).make(address, unseen)
    assert load_manifest(copy).samples == 1
    hub.put("me/bare", {"0.jpg": b"pixels"})
    with pytest.raises(GanscaleError, match="no parquet files, and the hub has made none"):
        Copies(of_hub(tmp_path)).make("hf://datasets/me/bare", unseen)


def test_a_packed_dataset_on_the_hub_is_read_as_before(hub: DatasetHub, tmp_path: Path) -> None:
    hub.put("me/packed", {"manifest.json": b"{}"})
    assert not is_source("hf://datasets/me/packed", of_hub(tmp_path))


REFUSED = {
    "hf://datasets/me/none": "knows no such dataset, or it is private",
    "hf://datasets/me/secret": "knows no such dataset, or it is private",
    "hf://datasets/me/gated": "only to those who accept their terms",
    "hf://datasets/me/faces@v9": "no such revision",
    "hf://datasets/me/faces/nowhere": "no parquet files",
    "hf://datasets/me faces": "must be hf://datasets/USER/NAME",
}


@pytest.mark.parametrize("address", REFUSED)
def test_what_the_hub_refuses_is_said_in_one_sentence(
    hub: DatasetHub, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, marked in (("me/secret", hub.private), ("me/gated", hub.gated)):
        hub.put(name, {"train.parquet": parquet({"image": images(1)})})
        marked.add(name)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(GanscaleError, match=REFUSED[address]) as caught:
        Copies(of_hub(tmp_path, address)).make(address, unseen)
    assert "hf_wrong" not in str(caught.value)


@pytest.mark.parametrize("name", ["secret", "gated"])
def test_a_token_opens_private_and_gated_datasets(
    hub: DatasetHub, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put(f"me/{name}", {"train.parquet": parquet({"image": images(1, 2)})})
    hub.private.add("me/secret")
    hub.gated.add("me/gated")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    address = f"hf://datasets/me/{name}"
    assert load_manifest(Copies(of_hub(tmp_path)).make(address, unseen)).samples == 2


def test_missing_packages_are_named(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, parquet({"image": images(1)}))
    for module in ("pyarrow", "huggingface_hub"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(GanscaleError, match=r"pyarrow: pip install 'ganscale\[hf\]'"):
        opened(path)
    with pytest.raises(GanscaleError, match=r"huggingface_hub: pip install 'ganscale\[hf\]'"):
        hub_source.list_hub("hf://datasets/me/other")
