"""Print the completion of commands, options, files and keys for a shell.

The script is static: pressing Tab starts no Python. It is made of the parser itself, by shtab.
"""

import argparse
import re
from collections.abc import Iterator

from ganscale.terminal import print_text

SHELLS = ("bash", "zsh", "fish")
INSTALL = """\
bash:  mkdir -p ~/.local/share/bash-completion/completions
       ganscale completion bash > ~/.local/share/bash-completion/completions/ganscale
zsh:   ganscale completion zsh > "${fpath[1]}/_ganscale"
fish:  ganscale completion fish > ~/.config/fish/completions/ganscale.fish
"""
YAML = ("experiment", "grid")
FOLDERS = ("run", "folder")
KEYS = "_ganscale_overrides"
PREAMBLE = {
    "bash": KEYS
    + """() {{ compgen -W "{keys}" -- "$1"; }}
""",
    "zsh": KEYS
    + """() {{ compadd -S '' -- {keys}; }}
""",
    "fish": "function "
    + KEYS
    + """; printf '%s\\n' {keys}; end
""",
}
"""A function for each shell that offers the keys of an experiment, each with the `=` behind it."""
NO_SPACE = """
_ganscale_without_space() {
  _shtab_ganscale
  [[ ${#COMPREPLY[@]} = 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
  return 0
}
complete -o bashdefault -F _ganscale_without_space ganscale
"""
"""Lets bash put no space behind the `=` of a key; zsh and fish put none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shell."""
    parser.add_argument("shell", choices=SHELLS)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = INSTALL


def run(options: argparse.Namespace) -> None:
    """Print the script for a shell."""
    import shtab

    program: argparse.ArgumentParser = options.program
    for action in _actions(program):
        completed = _completed(action)
        if completed is not None:
            action.complete = completed  # type: ignore[attr-defined]
    preamble = PREAMBLE[options.shell].format(keys=" ".join(_keys()))
    script = shtab.complete(program, shell=options.shell, preamble=preamble)
    # shtab lets zsh complete the first of several arguments and no other.
    script = re.sub(rf'"\(\*\)::([^"]*:{KEYS}")', r'"*:\1', script)
    print_text(script + "\n" + (NO_SPACE if options.shell == "bash" else ""))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of all commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from command._actions
        else:
            yield action


def _completed(action: argparse.Action) -> object | None:
    """Return what completes an argument, in shtab's words; None for its choices or nothing."""
    import shtab

    if action.dest == "overrides":
        return {"bash": KEYS, "zsh": KEYS, "fish": f"({KEYS})"}
    if not action.option_strings and action.dest in YAML:
        # zsh takes the parentheses around shtab's own pattern for qualifiers of files.
        return {**shtab.glob("*.yaml"), "zsh": "_files -g '*.yaml'"}
    if not action.option_strings and action.dest in FOLDERS:
        return shtab.DIRECTORY
    is_path = getattr(action.type, "__name__", "") in ("path", "location")
    return shtab.FILE if is_path else None


def _keys() -> list[str]:
    """Return every key that an override may set, with a `=`; those of list items are left out."""
    from ganscale.config.keys import ITEM, sections
    from ganscale.config.load import BASE

    places = {place for section in sections() for place in section.places}
    keys = [
        f"{place}.{key.name}" if place else key.name
        for section in sections()
        for place in section.places
        for key in section.keys
    ]
    return [
        f"{key}="
        for key in dict.fromkeys(keys)
        if f".{ITEM}" not in key and key not in (*places, BASE)
    ]
