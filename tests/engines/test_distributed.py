"""What processes exchange whose devices cannot hold it: as if there were two."""

import pytest
import torch

from ganscale.engines import distributed


@pytest.mark.parametrize(
    ("operation", "expected"), [("sum", [5, 7]), ("min", [2, 3]), ("max", [3, 4])]
)
def test_float64_of_the_host_is_reduced_where_a_group_knows_only_devices(
    monkeypatch: pytest.MonkeyPatch, operation: str, expected: list[int]
) -> None:
    mine, other = (torch.tensor(x, dtype=torch.float64) for x in ([2, 4], [3, 3]))
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "gather_objects", lambda tensor: [tensor, other])
    monkeypatch.setattr(distributed.dist, "get_backend", lambda: "xccl")
    reduced = distributed.all_reduce(mine, operation)  # type: ignore[arg-type]
    assert reduced is mine
    assert reduced.tolist() == expected


def test_rank_0_sends_any_type_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {
        "double": torch.tensor([[0.1, -2.0], [torch.inf, 3.0]], dtype=torch.float64).T,
        "number": torch.tensor(7.5, dtype=torch.float64),
        "none": torch.zeros(0, 3, dtype=torch.float64),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
    }
    types: list[torch.dtype] = []
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    monkeypatch.setattr(distributed, "broadcast_object", lambda value: value)
    monkeypatch.setattr(distributed.dist, "broadcast", lambda t, _: types.append(t.dtype))
    received = distributed.tensors_from_rank_0(lambda: sent, torch.device("cpu"))
    assert received is not None
    assert set(types) == {torch.uint8}
    for name, tensor in sent.items():
        assert received[name].dtype == tensor.dtype
        assert torch.equal(received[name], tensor)
