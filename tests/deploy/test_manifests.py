"""compose.yaml, the manifests of Kubernetes and the units of systemd: linted, since nothing runs them here."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from tests.deploy.image import DOCKERFILE, ROOT, steps
from tests.tools import CHECK_JSONSCHEMA, KUBERNETES_VALIDATE, SYSTEMD_ANALYZE

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
VARIABLES = set(re.findall(r"(?m)^#?([A-Z_]+)=", (ROOT / ".env.example").read_text()))
SERVER = dict(steps(DOCKERFILE.read_text()))


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# Docker Compose


def test_compose_file_follows_the_specification(tmp_path: Path) -> None:
    run(CHECK_JSONSCHEMA, "--builtin-schema", "vendor.compose-spec", COMPOSE)
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text().replace("cap_drop: [ALL]", "cap_drop: ALL"))
    with pytest.raises(AssertionError, match="cap_drop"):
        run(CHECK_JSONSCHEMA, "--builtin-schema", "vendor.compose-spec", broken)


def test_compose_file_sets_known_variables() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    server, migrate = compose["services"]["server"], compose["services"]["migrate"]
    assert server["environment"].keys() <= VARIABLES
    assert server["environment"] == migrate["environment"]
    used = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text()))
    assert used == set(re.findall(r"(?m)^([A-Z_]+)=", (DEPLOY / ".env.example").read_text()))
    assert (COMPOSE.parent / migrate["build"]["context"] / migrate["build"]["dockerfile"]).resolve() == DOCKERFILE
    for service in compose["services"].values():
        assert set(service["networks"]) <= compose["networks"].keys()
    assert compose["networks"]["data"] == {"internal": True}
    assert [name for name, service in compose["services"].items() if "ports" in service] == ["caddy"]
    assert f"server:{SERVER['EXPOSE']}" in (DEPLOY / "Caddyfile").read_text()


# Kubernetes


@pytest.mark.parametrize("name", ["latchkey.yaml", "migrate.yaml"])
def test_manifests_follow_the_schemas(name: str, tmp_path: Path) -> None:
    file = DEPLOY / "kubernetes" / name
    run(KUBERNETES_VALIDATE, "--strict", "--kubernetes-version", "1.37.0", file)
    broken = tmp_path / "broken.yaml"
    broken.write_text(file.read_text().replace("readOnlyRootFilesystem", "readOnlyRoot"))
    with pytest.raises(AssertionError, match="readOnlyRoot"):
        run(KUBERNETES_VALIDATE, "--strict", "--kubernetes-version", "1.37.0", broken)


def manifests() -> list[dict[str, Any]]:
    return [document for file in DEPLOY.glob("kubernetes/*.yaml") for document in yaml.safe_load_all(file.read_text())]


def test_every_container_is_hardened_and_gets_its_settings() -> None:
    pods = [pod for manifest in manifests() for pod in find(manifest, "containers")]
    assert len(pods) == 3
    for pod in pods:
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["envFrom"] == [{"secretRef": {"name": "latchkey"}}]


def find(value: Any, key: str) -> list[dict[str, Any]]:
    """Return all mappings in the value that have the key, at any depth."""
    if isinstance(value, list):
        return [found for item in value for found in find(item, key)]
    if not isinstance(value, dict):
        return []
    return ([value] if key in value else []) + [found for item in value.values() for found in find(item, key)]


def test_probes_use_existing_endpoints() -> None:
    probes = [probe["httpGet"] for manifest in manifests() for probe in find(manifest, "httpGet")]
    assert [probe["path"] for probe in probes] == ["/health/live", "/health/live", "/health/ready"]
    # At the pod's address: no Host is set, and tests/api/test_health.py shows that any is accepted.
    assert all(probe.keys() == {"path", "port"} for probe in probes)
    [port] = [port for manifest in manifests() for item in find(manifest, "containerPort") for port in [item]]
    assert port == {"name": "http", "containerPort": int(SERVER["EXPOSE"])}


# systemd


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Return the units, with the program that they start in place."""
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in DEPLOY.glob("systemd/*"):
        (folder / unit.name).write_text(unit.read_text().replace("/srv/latchkey/.venv/bin/python", sys.executable))
    return sorted(folder.iterdir())


def test_units_are_valid(units: list[Path]) -> None:
    assert len(units) == 3
    assert run(SYSTEMD_ANALYZE, "verify", "--man=no", *units) == ""
    units[-1].write_text(units[-1].read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in run(SYSTEMD_ANALYZE, "verify", "--man=no", units[-1])


def test_unit_is_hardened(units: list[Path]) -> None:
    [service] = [unit for unit in units if unit.name == "latchkey.service"]
    run(SYSTEMD_ANALYZE, "security", "--offline=yes", "--threshold=25", "--no-pager", service)


def test_units_run_existing_commands() -> None:
    text = "".join(unit.read_text() for unit in sorted(DEPLOY.glob("systemd/*.service")))
    started = re.findall(r"(?m)^Exec\w+=/srv/latchkey/\.venv/bin/python (.*)$", text)
    commands = [line.split()[1] for line in started if line.startswith("manage.py")]
    assert commands == ["flushexpiredtokens", "clearsessions", "migrate", "collectstatic"]
    assert set(commands) <= get_commands().keys()
    assert started[-1].split() == json.loads(SERVER["CMD"])[1:]
