"""The manifests: valid for Kubernetes, as locked as the stack, and scaled by numbers that exist."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # has no stubs
import pytest
import yaml

from backend.app import create_app
from backend.settings import Settings
from edgetam_model.cli import build_parser
from tests.backend.server_fixtures import services_in
from tests.docker.recipes import DOCKER, environment, manifest, manifests

VERSIONS = ("1.29", "1.34")  # of the ends of what clusters run
FOREIGN = ("ScaledObject", "PodMonitor")  # of KEDA and of the Prometheus operator
OWN = [found for found in manifests() if found["kind"] not in FOREIGN]
WORKLOADS = [found for found in manifests() if found["kind"] == "Deployment"]
KNOWN = {row.name for row in Settings.reference()}


def name_of(found: Any) -> str:
    return f"{found['kind']}-{found['metadata']['name']}"


def pod(workload: Any) -> Any:
    return workload["spec"]["template"]["spec"]


@pytest.mark.parametrize("found", OWN, ids=name_of)
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_understands_it(found: Any, version: str) -> None:
    kubernetes_validate.validate(found, version, strict=True)


def test_kustomize_names_every_file() -> None:
    folder = DOCKER / "kubernetes"
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted(named) == sorted(p.name for p in folder.glob("*.yaml") if p.name != "kustomization.yaml")


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_pods_are_locked(workload: Any) -> None:
    spec = pod(workload)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    who = spec["securityContext"]
    assert (who["runAsNonRoot"], who["runAsUser"], who["seccompProfile"]["type"]) == (
        True,
        1000,
        "RuntimeDefault",
    )
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert "cpu" not in container["resources"]["limits"]  # it would stop threads in the middle of a frame


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_what_is_written_is_mounted(workload: Any) -> None:
    spec = pod(workload)
    (container,) = spec["containers"]
    image = environment(DOCKER / "server.Dockerfile")
    places = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(places) == {image["EDGETAM_CACHE"], image["MODEL_DIR"], "/tmp"}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert set(volumes) == set(places.values())
    claim = volumes[places[image["MODEL_DIR"]]]["persistentVolumeClaim"]["claimName"]
    assert manifest("PersistentVolumeClaim", claim)["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_commands_and_settings_are_of_this_program(workload: Any) -> None:
    (container,) = pod(workload)["containers"]
    program, *words = container["command"]
    assert program == "edgetam"
    assert build_parser().parse_args(words).log_json
    assert [list(source) for source in container["envFrom"]] == [["configMapRef"], ["secretRef"]]
    assert {entry["name"] for entry in container["env"]} == {"OMP_NUM_THREADS", "EDGETAM_THREADS"}


def test_settings_and_secrets_are_apart() -> None:
    config = manifest("ConfigMap", "edgetam")["data"]
    secret = manifest("Secret", "edgetam")["stringData"]
    Settings.from_env({**config, **secret})
    secrets = {row.name for row in Settings.reference() if row.secret}
    assert set(config) <= KNOWN - secrets
    assert set(secret) <= secrets
    assert all("CHANGE-ME" in value for value in secret.values())


def test_probes_tell_alive_and_ready_apart(tmp_path: Path) -> None:
    (container,) = pod(manifest("Deployment", "edgetam-server"))["containers"]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert probes["startup"] == probes["liveness"] != probes["readiness"]
    client = create_app(services_in(tmp_path, EDGETAM_TOKEN="t")).test_client()
    for probe in probes.values():
        assert probe["port"] == "http"
        assert client.get(probe["path"]).status_code == 200
    port = Settings.model_fields["port"].default
    assert container["ports"] == [{"name": "http", "containerPort": port}]


def test_a_worker_is_ready_when_the_queue_knows_it(tmp_path: Path) -> None:
    (container,) = pod(manifest("Deployment", "edgetam-worker"))["containers"]
    told = container["command"][-1]
    command = container["readinessProbe"]["exec"]["command"]
    file = tmp_path / "alive"
    script = [word.replace(told, str(file)) for word in command]
    assert script != command
    assert subprocess.run(script, check=False, stderr=subprocess.DEVNULL).returncode == 1
    file.touch()
    assert subprocess.run(script, check=False).returncode == 0


def test_services_and_budgets_find_their_pods() -> None:
    labels = pod_labels("edgetam-server")
    for kind in ("Service", "PodDisruptionBudget"):
        selector = manifest(kind, "edgetam-server")["spec"]["selector"]
        assert labels.items() >= selector.get("matchLabels", selector).items()
    replicas = manifest("Deployment", "edgetam-server")["spec"]["replicas"]
    assert replicas > manifest("PodDisruptionBudget", "edgetam-server")["spec"]["maxUnavailable"]
    for name in ("edgetam-server", "edgetam-worker"):
        chosen = manifest("Deployment", name)["spec"]["selector"]["matchLabels"]
        assert chosen.items() <= pod_labels(name).items()


def pod_labels(name: str) -> dict[str, str]:
    labels: dict[str, str] = manifest("Deployment", name)["spec"]["template"]["metadata"]["labels"]
    return labels


def test_prometheus_finds_the_servers_and_has_their_token() -> None:
    spec = manifest("PodMonitor", "edgetam")["spec"]
    assert spec["selector"]["matchLabels"].items() <= pod_labels("edgetam-server").items()
    (endpoint,) = spec["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    named = endpoint["authorization"]["credentials"]
    assert named["key"] in manifest("Secret", named["name"])["stringData"]


def test_workers_are_scaled_by_keda_and_by_nobody_else() -> None:
    spec = manifest("ScaledObject", "edgetam-worker")["spec"]
    target = spec["scaleTargetRef"]
    assert "replicas" not in manifest(target["kind"], target["name"])["spec"]
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    for trigger in spec["triggers"]:
        assert set(trigger) == {"type", "name", "metricType", "metadata"}
        assert trigger["type"] == "prometheus"
        assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold"}
        assert float(trigger["metadata"]["threshold"]) > 0
        assert isinstance(trigger["metadata"]["threshold"], str)  # KEDA knows text alone there
