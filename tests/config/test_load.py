import re
from pathlib import Path

import pytest

from ganscale.config import Data, Experiment, Train
from ganscale.config.load import differences, json_schema, load, load_recorded, to_yaml
from ganscale.errors import GanscaleError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_each_shipped_file_is_valid_and_completes_in_editors(path: Path) -> None:
    assert load(path).name == path.stem
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")


def test_each_row_of_the_results_is_a_shipped_file_with_samples() -> None:
    page = CONFIGS.parent / "docs" / "results.md"
    rows = re.findall(r"^\| \[(\w+)\]\((results/\w+\.png)\) \|", page.read_text(), re.MULTILINE)
    assert len(rows) == 7
    for name, samples in rows:
        assert (CONFIGS / f"{name}.yaml").is_file(), name
        assert (page.parent / samples).is_file(), samples


def test_the_shipped_schema_is_the_current_one() -> None:
    assert (CONFIGS / "schema.json").read_text() == json_schema(), (
        "renew it: ganscale config --schema > configs/schema.json"
    )


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("train: {steps: 5, batch_size: 32}\ngenerator: {optimizer: {lr: 1e-3}}\n")
    experiment = load(path, ["train.steps=7", "objective.penalties=[{kind: r1, weight: 2}]"])
    assert (experiment.train.steps, experiment.train.batch_size) == (7, 32)
    assert experiment.generator.optimizer.lr == 1e-3
    assert experiment.objective.penalties[0].weight == 2


def test_the_resolved_file_reads_back_the_same(tmp_path: Path) -> None:
    experiment = load(CONFIGS / "cifar10_dcgan.yaml", ["seed=3"])
    path = tmp_path / "resolved.yaml"
    path.write_text(to_yaml(experiment))
    assert load(path) == experiment


def test_a_file_may_differ_from_another(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("name: first\ntrain: {steps: 5, batch_size: 32}\n")
    (tmp_path / "second.yaml").write_text("base: first.yaml\nname: second\ntrain: {steps: 7}\n")
    (tmp_path / "third.yaml").write_text("base: second.yaml\nseed: 4\n")
    third = load(tmp_path / "third.yaml", ["train.batch_size=64"])
    assert (third.name, third.seed, third.train.steps, third.train.batch_size) == (
        "second",
        4,
        7,
        64,
    )
    (tmp_path / "lost.yaml").write_text("base: nowhere.yaml\n")
    with pytest.raises(GanscaleError, match=r"nowhere\.yaml: no such"):
        load(tmp_path / "lost.yaml")
    (tmp_path / "first.yaml").write_text("base: third.yaml\n")
    with pytest.raises(GanscaleError, match="circle"):
        load(tmp_path / "third.yaml")


def test_label_smoothing_needs_a_target_and_r3gan_a_stage_for_each_doubling() -> None:
    with pytest.raises(GanscaleError, match="has no target to smooth"):
        load(None, ["objective.loss=hinge", "objective.label_smoothing=0.1"])
    r3gan = "generator.network={architecture: r3gan, widths: [16, 16, 16], group: 8}"
    with pytest.raises(GanscaleError, match="give 4 widths"):
        load(None, [r3gan, "data.resolution=32"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepz=3", "train.stepz: unknown key; did you mean train.steps?"),
        ("batch_size=3", "did you mean train.batch_size or evaluation.batch_size?"),
        ("train.steps=abc", "train.steps='abc'"),
        ("train.steps=0", "greater than 0"),
        ("train=3", "train=3"),
        ("generator.network=3", "generator.network=3"),
        ("generator.network.wdth=3", "unknown key"),
        (
            "generator.network.architecture=foo",
            "generator.network.architecture='foo': use mlp, dcgan",
        ),
        ("generator.network.architecture=foo", "or a generator of your own as path/to/file.py"),
        ("generator.network.architecture=null", "generator.network.architecture=None: input sho"),
        (
            "generator.network={architecture: r3gan, widths: [12], group: 16}",
            "generator.network.widths=[12]: twice 12 is not a multiple of group=16",
        ),
        ("generator.network={architecture: r3gan, widths: []}", "generator.network.widths=[]: "),
        ("objective.loss=hing", "objective.loss='hing': did you mean hinge? use minimax, non_sat"),
        ("objective.loss=hing", "relativistic, or a loss of your own as path/to/file.py:Name"),
        ("objective.loss=3", "objective.loss=3: input should be a valid string"),
        (
            "objective.penalties=[{kind: wgan, weight: 1}]",
            "0.kind='wgan': did you mean wgan_gp? use r1",
        ),
        ("objective.penalties=[{weight: 1}]", "objective.penalties.0.kind: required"),
        ("objective.penalties=[{kind: 3, weight: 1}]", "objective.penalties.0.kind=3: input"),
        ("objective.penalties=[r1]", "objective.penalties.0='r1': input should be a valid dict"),
        ("objective.penalties=[{kind: r1, weight: 1, x: 1}]", "objective.penalties.0.x: unknown"),
        (
            "objective.penalties=[{kind: r1, weight: 1}, {kind: 'a.py:r1', weight: 1}]",
            "objective.penalties lists a kind twice: r1, r1",
        ),
        ("objective.penalties=[{kind: r1}]", "objective.penalties.0.weight: required"),
        ("train.accumulation=3", "train.batch_size=128 is not divisible by train.accumulation=3"),
        ("name=../x", "name="),
        ("data.classes=1", "greater than or equal to 2"),
        ("augment.policy=[flip,blur]", "augment.policy.1='blur': use color, translation"),
        (
            "augment.adaptive={}",
            "augment.adaptive steers the probability of augment.policy, which is",
        ),
        (
            "balance={held_out: x, band: [0.9, 0.1]}",
            "balance.band=[0.9, 0.1]: put the lower end first",
        ),
        (
            "evaluation.best=fidd",
            "evaluation.best='fidd': did you mean fid? use fid, kid, ",
        ),
        ("evaluation.best=diversity", "evaluation.best='diversity': did you mean density?"),
        ("evaluation.best='m.py:Mine'", "evaluation.best=m.py:Mine is not among evaluation.metri"),
        ("evaluation.metrics=['m.py:kid']", "evaluation.metrics: kid is the name of one that is "),
        ("evaluation.metrics=[fid]", "fid is always computed: leave it out"),
        ("evaluation.metrics=[banana]", "use classification_accuracy, feature_path_length, "),
        ("evaluation.metrics=['m.py:A','n.py:A']", "evaluation.metrics lists A twice"),
        (
            "evaluation.features=incepton",
            "did you mean inception? use auto, classifier, rotations, inception",
        ),
        ("steps", "write key=value"),
        ("seed=${nothing}", "nothing"),
        ("objective.penalties={0: {'a': {}}}", "objective.penalties="),
        ("objective.penalties.0.weight=1", "objective.penalties={'0': {'weight': 1}}"),
        ("[=null", "override '[=null': cannot be used"),
        ("name=a\0b", "override 'name=a\0b': not valid YAML"),
        ("seed=" + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("seed=" + "9" * 5000, "override 'seed=999"),
        ("seed=0x" + "f" * 5000, "less than 2 to the power of 63"),
        ("train.timeout=.inf", "finite number"),
        ("seed=${seed}", "Recursive interpolation"),
        ("train.zoom_out=x", "train.zoom_out: unknown key; known here: train.accumulation"),
        ("lr=1", "did you mean generator.optimizer.lr or discriminator.optimizer.lr?"),
        (
            "generator.network.norm=batch",
            "generator.network.norm: the architecture mlp has no such option; "
            "dcgan and resnet have it. mlp takes activation, hidden",
        ),
        (
            "discriminator.network={architecture: r3gan, width: 3}",
            "the architecture r3gan has no such option; dcgan and resnet have it. "
            "r3gan takes blocks, group, widths",
        ),
        (
            "discriminator.network={architecture: dcgan, wdth: 3}",
            "did you mean discriminator.network.width?",
        ),
        (
            "discriminator.network={architecture: 'a.py:B', depth: 3}",
            "options of your own class stand under options: discriminator.network.options.depth",
        ),
    ],
)
def test_a_mistake_gets_one_message_that_names_it(override: str, message: str) -> None:
    with pytest.raises(GanscaleError) as error:
        load(None, [override])
    assert message in str(error.value)
    assert "Traceback" not in str(error.value)


def test_an_override_that_does_not_fit_the_file_says_so(tmp_path: Path) -> None:
    file = CONFIGS / "mnist_mlp.yaml"
    with pytest.raises(GanscaleError) as error:
        load(file, ["generator.network.architecture=dcgan"])
    assert str(error.value) == (
        f"{file} is valid, but not with these overrides:\n"
        "  generator.network.hidden: the architecture dcgan has no such option; mlp has it. "
        "dcgan takes attention, norm, width\n"
        f"    {file} sets it: leave it out in a copy of that file"
    )
    broken = tmp_path / "broken.yaml"
    broken.write_text("seed: -1\n")
    with pytest.raises(GanscaleError, match=r"broken\.yaml: not a valid experiment"):
        load(broken, ["train.steps=3"])


def test_an_override_reaches_into_a_list() -> None:
    file = CONFIGS / "mnist_dcgan.yaml"
    changed = load(file, ["objective.penalties.0.weight=2", "train.steps=7"])
    assert [p.weight for p in changed.objective.penalties] == [2, 0.5]
    with pytest.raises(GanscaleError, match=r"override 'objective.penalties.5.weight=1'"):
        load(file, ["objective.penalties.5.weight=1"])
    with pytest.raises(GanscaleError, match=r"objective.penalties.0.weight=\{'a': \{\}\}"):
        load(file, ["objective.penalties.0.weight={'a': {}}"])


def test_a_path_that_no_file_can_have() -> None:
    with pytest.raises(GanscaleError, match="null byte"):
        load("a\0.yaml")


def test_resolution_is_checked_against_the_architecture() -> None:
    for size, near in (("30", "24x24 or 28x28 or 32x32"), ("[60,90]", "48x80 or 56x88 or 64x96")):
        with pytest.raises(GanscaleError, match=rf"data.resolution=.*doubling.*--size {near}$"):
            load(None, [f"data.resolution={size}", "generator.network.architecture=dcgan"])
    with pytest.raises(GanscaleError, match=r"--size 8x900$"):
        load(None, ["data.resolution=3x900", "discriminator.network.architecture=resnet"])
    r3gan = "generator.network={architecture: r3gan, widths: [16, 16, 16], group: 8}"
    assert load(None, ["data.resolution=[16,28]", r3gan]).image_shape == (1, 16, 28)
    with pytest.raises(GanscaleError, match=r"16 to 28 pixels; give 5 widths"):
        load(None, ["data.resolution=64x96", r3gan])


def test_a_resolution_is_one_side_or_two_in_any_form(tmp_path: Path) -> None:
    for override, kept in (
        ("data.resolution=64", 64),
        ("data.resolution=[64, 64]", 64),
        ("data.resolution='64x64'", 64),
        ("data.resolution=[64, 96]", (64, 96)),
        ("data.resolution=64x96", (64, 96)),
    ):
        experiment = load(None, [override])
        assert experiment.data.resolution == kept
        # The run folder's file gives the same experiment again, as an editor would write it.
        path = tmp_path / "experiment.yaml"
        path.write_text(to_yaml(experiment))
        assert load_recorded(path.read_bytes(), path) == load(path) == experiment
    assert "resolution: 64\n" in to_yaml(load(None, ["data.resolution=64x64"]))
    for wrong in ("0", "-3", "[1,2,3]", "64x", "x64", "64.5", "true", "99999999", "null"):
        with pytest.raises(GanscaleError, match=r"data\.resolution=.*or two for height and width"):
            load(None, [f"data.resolution={wrong}"])


def test_an_augmentation_is_refused_for_images_that_it_is_not_for() -> None:
    with pytest.raises(GanscaleError, match=r"rotate90 is for square images.*resolution=64x96"):
        load(None, ["data.resolution=64x96", "augment.policy=[flip,rotate90]"])
    load(None, ["data.resolution=64x64", "data.channels=3", "augment.policy=[color,rotate90]"])
    for name in ("color", "hue_saturation"):
        with pytest.raises(GanscaleError, match=rf"{name} is for grey or RGB.*use brightness"):
            load(None, ["data.channels=4", f"augment.policy=[{name}]"])
    load(None, ["data.channels=4", "augment.policy=[brightness,contrast,cutout]"])


def test_batch_norm_is_refused_under_a_penalty_for_each_image() -> None:
    overrides = [
        "discriminator.network.architecture=dcgan",
        "objective.penalties=[{kind: wgan_gp, weight: 10}]",
    ]
    with pytest.raises(GanscaleError, match="norm=none"):
        load(None, overrides)
    load(None, [*overrides, "discriminator.network.norm=none"])


@pytest.mark.parametrize("key", ["compile", "cuda_graph"])
def test_losses_in_two_pieces_share_no_generator_forward(key: str) -> None:
    both = ["data.path=x", f"train.{key}=true", "objective.share_fakes=true"]
    with pytest.raises(GanscaleError, match="set one of them to false"):
        load(None, both)


def test_a_penalty_in_float16_is_refused() -> None:
    """Its gradients by the pixels would become zeros, silently."""
    penalty = "objective.penalties=[{kind: r1, weight: 1, precision: network}]"
    with pytest.raises(GanscaleError, match="below what float16 can hold; use bf16"):
        load(None, ["data.path=x", penalty, "train.precision=fp16"])
    load(None, ["data.path=x", penalty, "train.precision=bf16"])


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such"), ("a: [1\n", "not valid YAML"), ("- 1\n", "key: value")],
)
def test_a_file_that_is_none(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(GanscaleError, match=message):
        load(path)


def test_a_folder_in_place_of_a_file_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(GanscaleError, match=f"`ganscale configure {tmp_path}` writes"):
        load(tmp_path)
    (tmp_path / "experiment.yaml").write_text("name: a")
    with pytest.raises(GanscaleError, match=r"the one in it is .*experiment\.yaml"):
        load(tmp_path)


def test_a_mistake_in_a_program_reads_as_in_a_file() -> None:
    with pytest.raises(GanscaleError) as refused:
        Experiment(name="a b", train={"stps": 3, "batch_size": -1})  # type: ignore[arg-type]
    assert str(refused.value).splitlines() == [
        "not a valid experiment:",
        "  name='a b': string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'",
        "  train.batch_size=-1: input should be greater than 0",
        "  train.stps: unknown key; did you mean train.steps?",
    ]
    with pytest.raises(GanscaleError, match=r"^not a valid experiment:\n  train\.batch_size=3"):
        Experiment(name="a", train=Train(batch_size=3), data=Data(partitions=2))


def test_differences_pass_over_the_machinery() -> None:
    ours = load(None)
    theirs = load(None, ["train.steps=5", "data.workers=0", "monitoring.log_every=3", "name=b"])
    assert differences(ours, theirs) == []
    other = load(None, ["seed=4", "generator.network.hidden=[3]"])
    assert [key for key, *_ in differences(ours, other)] == ["seed", "generator.network.hidden"]


def test_trackers_are_named_and_tensorboards_old_switch_works(tmp_path: Path) -> None:
    def trackers(*overrides: str) -> tuple[str, ...]:
        return load(None, overrides).monitoring.trackers

    assert trackers() == ("wandb", "tensorboard")
    assert trackers("monitoring.tensorboard=true") == ("wandb", "tensorboard")
    assert trackers("monitoring.tensorboard=false") == ("wandb",)
    listed = "monitoring.trackers=[mlflow]"
    assert trackers(listed) == ("mlflow",)
    assert trackers(listed, "monitoring.tensorboard=true") == ("mlflow", "tensorboard")
    known = "aim, clearml, comet, dvclive, mlflow, swanlab, tensorboard, trackio, wandb"
    with pytest.raises(GanscaleError, match=f"did you mean mlflow\\? use {known}, or a tracker"):
        trackers("monitoring.trackers=[mflow]")
    with pytest.raises(GanscaleError, match="lists mlflow twice"):
        trackers("monitoring.trackers=[mlflow, mlflow]")


def test_weights_were_once_called_inception_weights() -> None:
    assert load(None, ["evaluation.inception_weights=a.pth"]).evaluation.weights == "a.pth"
    assert load(None, ["evaluation.inception_weights=null"]).evaluation.weights is None
    new = ["evaluation.weights=a.pth"]
    for old in ("null", "a.pth"):
        changed = load(None, [*new, f"evaluation.inception_weights={old}"])
        assert changed.evaluation.weights == "a.pth"
    with pytest.raises(GanscaleError, match=r"inception_weights is now called evaluation\.weights"):
        load(None, [*new, "evaluation.inception_weights=b.pth"])
