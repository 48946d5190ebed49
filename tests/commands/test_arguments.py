from argparse import ArgumentTypeError

import pytest

from ganscale.commands.arguments import natural, numbers, path, port, positive


@pytest.mark.parametrize("text", ["-5", "²", "1" * 5000, "1_0", " 1", "x", "", "1.0", "٣"])
def test_what_is_no_number_is_named(text: str) -> None:
    for kind in (natural, positive):
        with pytest.raises(ArgumentTypeError, match="whole number") as error:
            kind(text)
        assert len(str(error.value)) < 120


def test_numbers() -> None:
    assert (natural("0"), natural("007"), positive("12")) == (0, 7, 12)
    with pytest.raises(ArgumentTypeError, match="from 1, not '0'"):
        positive("0")


def test_a_port_is_one_that_can_be() -> None:
    assert (port("1"), port("65535")) == (1, 65_535)
    for text in ("0", "65536"):
        with pytest.raises(ArgumentTypeError, match=f"not '{text}'"):
            port(text)


def test_lists_of_numbers() -> None:
    assert numbers("3,7,10-12,0-0") == (3, 7, 10, 11, 12, 0)
    for text in ("", "1,", "-3", "1-2-3", "1-", "²", " 1", "0-99999999999999999999"):
        with pytest.raises(ArgumentTypeError, match="ranges such as 3,7,10-12"):
            numbers(text)


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(ArgumentTypeError, match="must be a path"):
        path("")
    with pytest.raises(ArgumentTypeError, match="must be a path"):
        path("a\0b")
