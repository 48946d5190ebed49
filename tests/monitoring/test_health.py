from ganscale.monitoring.health import SYMPTOMS, Health


def test_a_sign_must_last_and_is_said_once() -> None:
    health = Health()
    for _ in range(9):
        assert health.observe({"d_accuracy": 0.99}) == []
    assert health.observe({"d_accuracy": 0.5}) == []  # it has passed: count anew
    for _ in range(9):
        assert health.observe({"d_accuracy": 0.99}) == []
    (alert,) = health.observe({"d_accuracy": 0.99})
    assert "overpowers" in alert.title
    assert "objective.penalties" in alert.text
    assert health.observe({"d_accuracy": 0.99}) == []


def test_each_fault_is_noticed_and_a_good_run_is_left_in_peace() -> None:
    bad = {
        "d_accuracy": 1.0,
        "gradient_norm_generator": 1e-6,
        "class_entropy": 0.5,
        "diversity": 0.3,
    }
    good = {
        "d_accuracy": 0.8,
        "gradient_norm_generator": 0.5,
        "class_entropy": 0.99,
        "diversity": 0.95,
    }
    assert set(bad) == {symptom.key for symptom in SYMPTOMS}
    ill, well = Health(), Health()
    said = [alert.title for _ in range(10) for alert in ill.observe(bad)]
    assert len(said) == len(set(said)) == len(SYMPTOMS)
    assert [alert for _ in range(20) for alert in well.observe(good)] == []
