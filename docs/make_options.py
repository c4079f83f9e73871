"""Prints docs/options.md, from the declarations in deepaas/config/."""

from __future__ import annotations

from oslo_config import cfg

from deepaas import config
from deepaas.config import describing

_HEAD = """\
# Options of `deepaas-run`

Each option is a flag of the command line, a key in `deepaas.conf` (with underscores, such as
`listen_port`), and a variable of the environment (`DEEPAAS_LISTEN_PORT`).
[Configuration](configuration.md) says which of them counts. `--[no]warm` stands for two flags,
`--warm` and `--nowarm`. `make docs` writes this page.

Besides these, each argument that is not a flag names a model: the name of an
installed one, `module:attribute` or `path/to/file.py[:attribute]`. `--config-file FILE` and
`--config-dir DIRECTORY` name files of configuration; `--help` and `--version` end the program.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, options in config.GROUPS.items():
        parts.append(f"## {title}\n\n| option | default | |\n|---|---|---|")
        parts += [_row(option) for option in options]
        parts.append("")
    return "\n".join(parts)


def _row(option: cfg.Opt) -> str:
    flags = ", ".join(f"`{flag}`" for flag in describing.flags(option).split(", "))
    usual = describing.default(option)
    text = str(option.help).replace("|", "\\|")
    return f"| {flags} | {usual and f'`{usual}`'} | {text} |"


if __name__ == "__main__":
    print(page(), end="")
