"""Prints docs/options.md, from the declarations in deepaas/config/."""

from __future__ import annotations

from oslo_config import cfg

from deepaas import config

_HEAD = """\
# Options of `deepaas-run`

Flags of the command line, or keys (with underscores) in the `[DEFAULT]` section of `deepaas.conf`,
which is looked for in `~/.deepaas/`, `~/`, `/etc/deepaas/` and `/etc/`, or named by
`--config-file`. A flag wins over a file. Keys that are not options are ignored. `make docs` writes
this page.

Besides these, each argument that is no flag names a model that is not installed:
`module:attribute` or `path/to/file.py[:attribute]`.
"""


def _flag(option: cfg.Opt) -> str:
    flag = f"--[no]{option.name}" if isinstance(option, cfg.BoolOpt) else f"--{option.name}"
    return f"`{flag}`" + (f", `-{option.short}`" if option.short else "")


def _default(option: cfg.Opt) -> str:
    value = option.default if option.sample_default is None else option.sample_default
    return "" if value == "" else f"`{value}`"


def main() -> None:
    print(_HEAD)
    for title, options in config.GROUPS.items():
        print(f"## {title}\n\n| option | default | |\n|---|---|---|")
        for option in options:
            print(f"| {_flag(option)} | {_default(option)} | {option.help} |")
        print()


if __name__ == "__main__":
    main()
