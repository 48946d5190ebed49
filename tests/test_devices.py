"""What is asked of a device, and what is done where the answer is another than CUDA's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ganscale import devices, randomness
from ganscale.config.load import load
from ganscale.engines.accelerators import choose_device
from ganscale.engines.distributed import available_backends, backend_of
from ganscale.engines.launcher import Launcher, find_engine
from ganscale.engines.rules import refuse_unfit_device
from ganscale.errors import GanscaleError
from ganscale.evaluation.samples import drawn_labels
from ganscale.gan.truncation import truncate

CPU, MPS, XPU, CUDA = map(torch.device, ("cpu", "mps", "xpu", "cuda"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[torch.device | None], None]:
    """Make PyTorch find this accelerator, as far as it is only asked which one there is."""
    monkeypatch.delenv(devices.CHOSEN, raising=False)

    def make(device: torch.device | None) -> None:
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: device)

    return make


@pytest.mark.parametrize(
    ("found", "device", "pins", "backend"),
    [
        (None, CPU, False, "gloo"),
        (CUDA, CUDA, True, "nccl"),
        (XPU, XPU, True, "xccl"),
        (MPS, MPS, False, "gloo"),
    ],
)
def test_what_pytorch_finds_is_used(
    machine: Any, found: torch.device | None, device: torch.device, pins: bool, backend: str
) -> None:
    machine(found)
    assert devices.best_device() == choose_device(Launcher()) == device
    assert devices.pins_memory() == pins
    assert backend_of(device) == backend
    assert "gloo" in available_backends()


def test_the_environment_may_choose_another(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(MPS)
    monkeypatch.setenv(devices.CHOSEN, "cpu")
    assert devices.best_device() == CPU
    assert devices.count_accelerators() == 0
    monkeypatch.setenv(devices.CHOSEN, "gpu")
    with pytest.raises(GanscaleError, match="ACCELERATE_TORCH_DEVICE=gpu in the environment"):
        devices.best_device()


def test_processes_that_share_a_mac_train_on_its_cpu(
    machine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    machine(MPS)
    assert choose_device(Launcher(world_size=2)) == CPU
    assert "training on the CPU: the GPU of a Mac (MPS)" in caplog.text
    assert choose_device(Launcher(engine=find_engine("zero1"))) == CPU
    machine(XPU)
    assert choose_device(Launcher(world_size=2)) == XPU


@pytest.mark.parametrize(
    ("option", "device", "message"),
    [
        ("train.cuda_graph=true", XPU, "cuda_graph=true needs CUDA, and this GPU is xpu"),
        ("train.sync_batch_norm=true", MPS, "no synchronised BatchNorm on mps"),
        ("train.precision=fp16", XPU, "fp16 needs float64"),
        ("train.precision=bf16", MPS, "bf16 needs macOS 14"),
    ],
)
def test_what_a_gpu_cannot_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, option: str, device: torch.device, message: str
) -> None:
    monkeypatch.setattr(devices, "_computes_in_float64", lambda kind: False)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: False)
    train = load(None, [f"data.path={__file__}", option]).train
    with pytest.raises(GanscaleError, match=message):
        refuse_unfit_device(train, device)
    refuse_unfit_device(train, CUDA)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: True)
    if "precision" in option:
        refuse_unfit_device(train, MPS)


def test_float64_is_found_out_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.has_float64(CPU)
    assert devices.has_float64(torch.device("cuda", 3))  # without asking: this one is not there
    kinds = {"xpu": RuntimeError("Required aspect fp64 is not supported"), "mps": TypeError("mps")}
    ones = torch.ones

    def refuse(*size: int, device: Any, **options: Any) -> torch.Tensor:
        if device in kinds and options["dtype"] == torch.float64:
            raise kinds[device]
        return ones(*size, **options)

    monkeypatch.setattr(torch, "ones", refuse)
    monkeypatch.setattr(devices, "_computes_in_float64", devices._computes_in_float64.__wrapped__)
    assert devices.float64_device(torch.device("xpu", 0)) == CPU
    assert not devices.has_float64(MPS)
    del kinds["xpu"]
    assert devices.float64_device(torch.device("xpu", 0)) == torch.device("xpu", 0)


def test_numbers_are_the_same_where_the_host_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = torch.tensor([1.0, 2.0, 3.0])

    def draw(step: int | torch.Tensor) -> list[torch.Tensor]:
        latents = randomness.normal(1, "latents", step, range(3, 8), (3,), CPU)
        labels = drawn_labels(shares, 1, "labels", 2, range(50), CPU)
        return [latents, truncate(latents, 0.5, "normal"), labels]

    usual = draw(7)
    asked: list[torch.device] = []

    def has_float64(device: torch.device) -> bool:
        asked.append(device)
        return len(asked) > 1  # the first is the device, which has none; the second the host

    monkeypatch.setattr(randomness, "has_float64", has_float64)
    for step in (7, torch.tensor(7)):
        asked.clear()
        for one, other in zip(usual, draw(step), strict=True):
            assert torch.equal(one, other)
        assert asked == [CPU, CPU]


def test_a_device_may_not_tell_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: torch.device) -> None:
        raise RuntimeError(f"Allocator for {device} is not a DeviceAllocator.")

    for name in ("get_memory_info", "max_memory_allocated", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.accelerator, name, refuse)
    assert devices.memory_of(MPS) is None
    assert devices.peak_memory(MPS) is None
    devices.forget_peak_memory(MPS)


def test_asking_starts_no_gpu() -> None:
    """A forked worker of a data loader may ask, too."""
    devices.pins_memory()
    devices.accelerator_names()
    assert not torch.cuda.is_initialized()
