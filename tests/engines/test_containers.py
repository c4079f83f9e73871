"""The image that the Dockerfile of `deepaas dockerfile` gives, built and run with Podman."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.engines.conftest import PROGRAM, build
from tests.engines.engine import BUILD_SECONDS, Podman
from tests.support import wait_until

HARDENED = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"]
START_SECONDS = 120.0
"""How long a container may take to answer; only a failing test waits that long."""


@dataclass
class Container:
    """A container of the image, whose port is published at `port` of the private network."""

    podman: Podman
    name: str
    port: int = 5000

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self.podman.network():
            return httpx.request(
                method,
                f"http://127.0.0.1:{self.port}{path}",
                timeout=60,
                trust_env=False,
                **options,
            )

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.ask("GET", "/v2/health/ready").status_code == 200
        return False

    def predict(self, **arguments: str) -> dict[str, int]:
        response = self.ask("POST", "/v2/models/counting/predict/", data=arguments)
        assert response.status_code == 200, response.text
        found: dict[str, int] = response.json()["predictions"]
        return found

    @property
    def state(self) -> Path:
        """The volume of the container, seen from outside."""
        listing = "{{(index .Mounts 0).Source}}"
        return Path(self.podman.says("inspect", self.name, "--format", listing))

    def log(self) -> str:
        return self.podman.run("logs", self.name).stdout

    def exit_code(self) -> int:
        """Wait until the container ends, and return its exit code."""
        return int(self.podman.says("wait", self.name))

    def check_health(self) -> int:
        """Run the health check once, as an engine with systemd does by itself."""
        return self.podman.run("healthcheck", "run", self.name, check=False).returncode

    def remove(self) -> None:
        self.podman.run("rm", "--force", "--time=60", self.name)


@contextlib.contextmanager
def running(podman: Podman, image: str, *options: str, wait: bool = True) -> Iterator[Container]:
    publish = "--publish=127.0.0.1:5000:5000"
    container = Container(
        podman, podman.says("run", "--detach", publish, *HARDENED, *options, image)
    )
    try:
        if wait:
            wait_until(container.is_ready, within=START_SECONDS, what="a ready container")
        yield container
    finally:
        container.remove()


def test_container_predicts_for_a_user_without_rights_on_a_read_only_file_system(
    podman: Podman, image: str
) -> None:
    with running(podman, image) as container:
        assert container.predict() == {"weights": 0, "uid": 1000, "gid": 1000}
        listing = podman.says("top", container.name, "pid", "user", "capeff", "comm")
        processes = [line.split() for line in listing.splitlines()[1:]]
        assert ["1", "deepaas", "none", "deepaas-run"] in processes
        assert {user for _, user, *_ in processes} == {"deepaas"}


def test_container_is_healthy_when_its_model_is_loaded(podman: Podman, image: str) -> None:
    with running(podman, image, "--env=WARM_WAITS_FOR=loaded", wait=False) as container:

        def is_live() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return container.ask("GET", "/v2/health/live").status_code == 200
            return False

        wait_until(is_live, within=START_SECONDS, what="an open port")
        assert container.check_health() == 1
        (container.state / "loaded").touch()
        wait_until(container.is_ready, within=START_SECONDS, what="a loaded model")
        assert container.check_health() == 0
        health = podman.says("inspect", container.name, "--format", "{{.State.Health.Status}}")
        assert health == "healthy"


def test_health_check_follows_the_variables_for_port_and_path(podman: Podman, image: str) -> None:
    options = ["--env=DEEPAAS_LISTEN_PORT=8080", "--env=DEEPAAS_BASE_PATH=/x/"]
    with running(podman, image, *options, wait=False) as container:
        wait_until(
            lambda: container.check_health() == 0, within=START_SECONDS, what="a healthy container"
        )


def test_container_answers_its_last_request_after_sigterm_and_exits_with_0(
    podman: Podman, image: str
) -> None:
    with running(podman, image, "--env=DEEPAAS_DRAIN_TIMEOUT=300") as container:
        answers: list[dict[str, int]] = []
        last = threading.Thread(target=lambda: answers.append(container.predict(waits_for="go")))
        last.start()
        wait_until(
            (container.state / "begun").exists, within=60, what="the start of the prediction"
        )
        podman.run("kill", "--signal=TERM", container.name)
        wait_until(lambda: "Stopping" in container.log(), within=60, what="the begin of the end")
        assert podman.says("inspect", container.name, "--format", "{{.State.Status}}") == "running"
        (container.state / "go").touch()
        last.join(timeout=60)
        assert answers == [{"weights": 0, "uid": 1000, "gid": 1000}]
        assert container.exit_code() == 0


def test_next_container_has_the_training_and_its_weights(podman: Podman, image: str) -> None:
    volume = "--volume=counting-state:/state"
    with running(podman, image, volume) as container:
        train = "/v2/models/counting/train/"
        uuid = container.ask("POST", train, data={"weights": "7"}).json()["uuid"]
        wait_until(
            lambda: container.ask("GET", train + uuid).json()["weights_loaded_utc"],
            within=START_SECONDS,
            what="the new weights",
        )
        assert container.predict()["weights"] == 7
    with running(podman, image, volume) as container:
        assert container.predict()["weights"] == 7
        assert container.ask("GET", train + uuid).json()["status"] == "done"
        assert container.ask("GET", f"{train}{uuid}/artifacts/curve.csv").text == "1"


def test_other_programs_of_the_package_run_in_the_image(podman: Podman, image: str) -> None:
    output = podman.says("run", "--rm", *HARDENED, image, "deepaas-cli", "predict")
    assert "return: {'weights': 0, 'uid': 1000, 'gid': 1000}" in output


def test_options_are_read_from_a_mounted_file(podman: Podman, image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # pytest makes it private
    (tmp_path / "deepaas.conf").write_text("[DEFAULT]\nbase_path = /models\n")
    mount = f"--volume={tmp_path}:/etc/deepaas:ro"
    with running(podman, image, mount, wait=False) as container:
        wait_until(lambda: "Listening on" in container.log(), within=START_SECONDS, what="a port")
        assert container.ask("GET", "/models/v2/health/live").status_code == 200


def test_variant_for_gpus_is_built(
    podman: Podman, package: Path, image: str, tmp_path: Path
) -> None:
    file = tmp_path / "Dockerfile"
    command = [str(PROGRAM), "dockerfile", "--gpu", "--base=base", f"--output={file}"]
    subprocess.run(command, cwd=package, check=True, stdout=subprocess.DEVNULL)
    build(podman, package, "--tag", "counting-gpu", "--file", str(file))
    variables = podman.says("image", "inspect", "counting-gpu", "--format", "{{.Config.Env}}")
    assert "NVIDIA_VISIBLE_DEVICES=all" in variables


def test_change_of_the_code_does_not_install_the_dependencies_again(
    podman: Podman, package: Path, image: str
) -> None:
    with (package / "counting" / "api.py").open("a") as code:
        code.write("\n# a change\n")
    output = build(podman, package, "--target", "build")
    assert "Successfully installed counting-1.0" in output
    assert "Collecting aiohttp" not in output


def test_image_is_small(podman: Podman, image: str) -> None:
    sizes = [
        int(podman.says("image", "inspect", name, "--format", "{{.Size}}"))
        for name in ("base", image)
    ]
    assert sizes[1] - sizes[0] < 150_000_000


def test_installed_distribution_is_installed_from_wheels(
    podman: Podman, package: Path, image: str, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = tmp_path / "wheels"
    shutil.copytree(package / "wheels", wheels)
    copy = shutil.copytree(package, tmp_path / "copy")  # the build leaves files behind
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(copy)], check=True)
    (wheel,) = wheels.glob("counting-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    subprocess.run(
        [str(PROGRAM), "dockerfile", "--base=base", "counting"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    build(podman, tmp_path, "--target", "build", "--tag", "from-wheels")
    output = podman.says("run", "--rm", "from-wheels", "deepaas-cli", "get_metadata")
    assert "counting" in output


def test_folder_of_wheels_may_be_missing(podman: Podman, package: Path, tmp_path: Path) -> None:
    """Then pip is what fails, because there is no index."""
    for file in ("pyproject.toml", "Dockerfile"):
        shutil.copy(package / file, tmp_path)
    command = ["build", "--build-arg=PIP_NO_INDEX=1", "--target=build", "."]
    done = podman.run(*command, cwd=tmp_path, timeout=BUILD_SECONDS, check=False)
    assert done.returncode != 0
    assert "No matching distribution found for deepaas" in done.stdout + done.stderr
