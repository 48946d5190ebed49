import pytest

from ganscale.cli import main


@pytest.mark.parametrize(
    ("sweep", "trial", "folder"),
    [
        ("s1", "ab12", "runs/mlp-ab12"),
        ("s1", "cd34", "runs/mlp-cd34"),
        ("", "ab12", "runs/mlp"),  # a run id of the user's own: no sweep
        ("s1", "", "runs/mlp"),
    ],
)
def test_a_trials_run_is_named_after_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sweep: str,
    trial: str,
    folder: str,
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", sweep)
    monkeypatch.setenv("WANDB_RUN_ID", trial)
    assert main(["config", "name=mlp", "--folder"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"


def test_a_trial_that_cannot_be_part_of_a_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "../elsewhere")
    assert main(["config", "--folder"]) == 1
    assert "WANDB_RUN_ID='../elsewhere' cannot be part of a run's name" in capsys.readouterr().err
