"""`deepaas dockerfile`: a Dockerfile that serves the models of a package."""

from __future__ import annotations

import difflib
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path

import click

_NAME = (
    r"^[ \t]*\[[ \t]*{table}[ \t]*\][^\n]*\n"  # the header of the table
    r"(?:(?![ \t]*\[+[\w \t.\"'-]+\]+[ \t]*(?:#.*)?$).*\n)*?"  # lines before the next header
    r"[ \t]*name[ \t]*=[ \t]*[\"']([^\"'\n]+)[\"']"
)
"""The name in a table of TOML; Python 3.10 has no module that reads TOML."""

GROUP = "deepaas.v2.model"
SOURCES = ("pyproject.toml", "setup.cfg", "setup.py")
"""The files in which a package can declare entry points."""

OLDEST = 11
"""The oldest minor version of Python 3 for images: the build reads TOML with `tomllib`."""

_HEAD = """\
# Serves the models of {package} with deepaas-run. `deepaas dockerfile` has written this file.
#
#   docker build --tag {tag} .
#   docker run --rm --publish 127.0.0.1:5000:5000 --volume {tag}:/state {options}{tag}
#
# Podman needs `podman build --format docker`, because its own format has no health check.

# Another base needs Python 3.{oldest} or newer with venv, and the programs of Debian.
ARG BASE={base}

# This stage has everything that only the installation needs.
FROM ${{BASE}} AS build

# For another index, set the first two with --build-arg. pip also finds the wheels that are in the
# folder wheels/, if there is one. With --build-arg PIP_NO_INDEX=1 it uses no index at all.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_NO_INDEX
ENV PIP_FIND_LINKS=/wheels PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

"""

_FOLDER = """\
# The dependencies are a separate layer, so that a change of the code does not install them again.
COPY pyproject.toml {requirements}wheels* /wheels/
RUN python -c "import tomllib; \\
metadata = tomllib.load(open('/wheels/pyproject.toml', 'rb')).get('project', {{}}); \\
print(*metadata.get('dependencies', []), sep='\\n')" > /wheels/dependencies.txt \\
 && pip install --requirement /wheels/dependencies.txt{requirement_option}

COPY . /code
RUN pip install /code

"""

_DISTRIBUTION = """\
# COPY needs a file that exists; this one stands beside wheels/, which may be missing.
COPY {file} wheels* /wheels/
RUN pip install '{requirement}'

"""

_TAIL = """\
FROM ${{BASE}}

# The user has a fixed number, which the owner of a mounted folder must match, and is not root.
ARG UID=1000
RUN groupadd --non-unique --gid ${{UID}} deepaas \\
 && useradd --non-unique --uid ${{UID}} --gid ${{UID}} --home-dir /state --no-create-home deepaas \\
 && install --directory --mode 0750 --owner ${{UID}} --group ${{UID}} /state

# Libraries of the system that the model needs, such as libgl1 for OpenCV:
# RUN apt-get update && apt-get install -y --no-install-recommends libgl1 \\
#  && rm -rf /var/lib/apt/lists/*

COPY --from=build /opt/venv /opt/venv

# /state has the trainings, the trained weights, and what libraries download to their caches.
# The port opens at once, so that a probe sees that the server lives while it loads the models.
ENV PATH=/opt/venv/bin:$PATH \\
    HOME=/state \\
    DEEPAAS_STATE_DIR=/state/deepaas \\
    DEEPAAS_LISTEN_IP=0.0.0.0 \\
    DEEPAAS_LISTEN_PORT=5000 \\
    DEEPAAS_LISTEN_EARLY=true
{gpu}WORKDIR /state
USER ${{UID}}:${{UID}}
VOLUME /state
EXPOSE 5000

# The image has no curl. The container is healthy when every model can answer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=6 \\
  CMD ["python", "-c", "import http.client, os, sys; \\
port, path = os.environ['DEEPAAS_LISTEN_PORT'], os.environ.get('DEEPAAS_BASE_PATH', ''); \\
connection = http.client.HTTPConnection('127.0.0.1', int(port), timeout=4); \\
connection.request('GET', path.rstrip('/') + '/v2/health/ready'); \\
sys.exit(connection.getresponse().status != 200)"]

# Without a shell in between, deepaas-run gets the signal and answers its last requests.
STOPSIGNAL SIGTERM
CMD ["deepaas-run"]
"""

_GPU = """\
# The packages of the model bring CUDA, the host brings the driver. These variables ask NVIDIA's
# container toolkit for the parts of the driver that computing needs.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
"""

DOCKERIGNORE = """\
.git
.venv*
venv
**/__pycache__
**/.*_cache
**/*.egg-info
build
dist
.env
"""


def dockerfile_for(
    package: str,
    *,
    gpu: bool = False,
    python: str = "",
    base: str = "",
    requirement: str = "",
    requirements: bool = False,
    file: str = "Dockerfile",
) -> str:
    """Return the text of a Dockerfile that serves the models of a package.

    The package, whose name is `package`, is in the folder of the Dockerfile. If `requirement` is
    given, such as `name==1.0`, it is installed from an index instead. `python` is the version, by
    default that of the running Python; `base` replaces the official image of that version. With
    `requirements`, the folder has a file requirements.txt, which is installed too. `file` is the
    name of the Dockerfile.
    """
    values = {
        "package": " ".join(package.split()),  # the name of a folder can have line feeds
        "tag": re.sub(r"[^a-z0-9]+", "-", package.lower()).strip("-") or "model",
        "options": "--gpus all " if gpu else "",
        "oldest": OLDEST,
        "base": base or f"python:{python or _python()}-slim",
        "gpu": _GPU if gpu else "",
        "requirements": "requirements.txt " if requirements else "",
        "requirement_option": " --requirement /wheels/requirements.txt" if requirements else "",
        "requirement": requirement,
        "file": file,
    }
    return (_HEAD + (_DISTRIBUTION if requirement else _FOLDER) + _TAIL).format(**values)


def _python() -> str:
    """Return the version of the running Python, as far as a name of an image has it."""
    return f"3.{max(sys.version_info.minor, OLDEST)}"


@click.command("dockerfile", short_help="Write a Dockerfile that serves the models of a package.")
@click.argument("package", default=".")
@click.option("--gpu", is_flag=True, help="Write the variant for NVIDIA GPUs.")
@click.option(
    "--output",
    metavar="FILE",
    help="The file to write; - is standard output.  [default: Dockerfile in the folder]",
)
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
@click.option(
    "--python",
    metavar="VERSION",
    default=_python,
    show_default="the running version",
    help="The version of Python in the image, such as 3.12.",
)
@click.option("--base", metavar="IMAGE", help="Another base image, with python3 and venv.")
def command(
    package: str, gpu: bool, output: str | None, force: bool, python: str, base: str | None
) -> None:
    """Write a Dockerfile that serves the models of PACKAGE with deepaas-run.

    PACKAGE is a folder with a pyproject.toml, by default the current one, or the name of an
    installed distribution. The folder also gets a .dockerignore, unless it has one.
    """
    _check_python(python)
    folder = Path(package)
    is_folder = folder.is_dir()
    target = Path(output) if output else (folder if is_folder else Path()) / "Dockerfile"
    if base is not None:
        _check(base, r"[A-Za-z0-9][\w./:@-]*", "the name of an image, such as own:1", "--base")
    if not is_folder and output != "-":  # the image copies the file
        _check(
            target.name, r"[\w.][\w.+-]*", "a name with only a-z, 0-9, _, ., + and -", "--output"
        )
    name, requirement = (_name_in(folder), "") if is_folder else _installed(package)
    text = dockerfile_for(
        name,
        gpu=gpu,
        python=python,
        base=base or "",
        requirement=requirement,
        requirements=is_folder and (folder / "requirements.txt").is_file(),
        file="Dockerfile" if output == "-" else target.name,
    )
    if output == "-":
        click.echo(text, nl=False)
        return
    _write(target, text, force=force)
    ignored = (folder if is_folder else target.parent) / ".dockerignore"
    if not ignored.exists():
        _write(ignored, DOCKERIGNORE, force=False)


def _check_python(version: str) -> None:
    match = re.fullmatch(r"3\.(\d+)(\.\d+)?", version)
    if match is None or int(match[1]) < OLDEST:
        raise click.BadParameter(
            f"must be a version such as 3.12, from 3.{OLDEST} on, and not {version!r}",
            param_hint="--python",
        )


def _check(value: str, pattern: str, allowed: str, option: str) -> None:
    """Refuse a value that is more than one word of an instruction."""
    if not re.fullmatch(pattern, value, re.ASCII):
        raise click.BadParameter(f"must be {allowed}, and not {value!r}", param_hint=option)


def _name_in(folder: Path) -> str:
    """Return the name of the package in a folder, after a check that it has a model."""
    if not (folder / "pyproject.toml").is_file():
        raise click.ClickException(
            f"{folder.absolute()} has no pyproject.toml; name the folder of the package, or an "
            "installed distribution"
        )
    sources = [folder / source for source in SOURCES if (folder / source).is_file()]
    texts = [source.read_text(encoding="utf-8", errors="replace") for source in sources]
    if not any(GROUP in text for text in texts):
        raise click.ClickException(
            f"the package in {folder.absolute()} has no model; add it to pyproject.toml:\n\n"
            f'  [project.entry-points."{GROUP}"]\n  NAME = "MODULE"'
        )
    for table in ("project", "tool.poetry"):
        if found := re.search(_NAME.format(table=re.escape(table)), texts[0], re.MULTILINE):
            return found[1]
    return folder.absolute().name


def _installed(name: str) -> tuple[str, str]:
    """Return the name of an installed distribution, and the requirement that pins its version."""
    models = {point.dist.name for point in entry_points(group=GROUP) if point.dist}
    try:
        found = distribution(name)
    except (PackageNotFoundError, ValueError):
        near = difflib.get_close_matches(name, models, n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else "installed models: " + (", ".join(sorted(models)) or "none")
        )
        raise click.ClickException(
            f"there is no folder and no installed distribution {name}; {hint}"
        ) from None
    if not found.entry_points.select(group=GROUP):
        raise click.ClickException(f"the distribution {found.name} has no model, no {GROUP}")
    return found.name, f"{found.name}=={found.version}"


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise click.ClickException(f"{path} exists; overwrite it with --force") from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    click.echo(f"Wrote {path}")
