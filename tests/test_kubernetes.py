"""The manifests of ``deploy/kubernetes`` are rendered by kustomize and checked by their schemas."""

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from connectors.cli.main import main
from streams.records.topics import RAW, STAGED
from streams.settings import Settings
from tests.go_tools import go_module, go_tool

HOME = Path(__file__).parent.parent / "deploy" / "kubernetes"
KUBERNETES = "1.33"
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5", "v5.7.1"

KEDA = "github.com/kedacore/keda/v2", "v2.17.2", "config/crd/bases"
OPERATOR = (
    "github.com/prometheus-operator/prometheus-operator",
    "v0.85.0",
    "example/prometheus-operator-crd",
)
CUSTOM = {
    "ScaledObject": (*KEDA, "keda.sh_scaledobjects.yaml"),
    "TriggerAuthentication": (*KEDA, "keda.sh_triggerauthentications.yaml"),
    "PodMonitor": (*OPERATOR, "monitoring.coreos.com_podmonitors.yaml"),
}
"""The addresses of the definitions of kinds that Kubernetes itself does not have."""

Resource = dict[str, Any]


def render(overlay: str) -> list[Resource]:
    kustomize = go_tool(*KUSTOMIZE)
    built = subprocess.run(
        [str(kustomize), "build", str(HOME / overlay)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


@pytest.fixture(scope="module", params=["base", "overlays/example"])
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return render(request.param)


@pytest.fixture(scope="module")
def example() -> list[Resource]:
    return render("overlays/example")


def of_kind(resources: list[Resource], *kinds: str) -> Iterator[Resource]:
    return (each for each in resources if each["kind"] in kinds)


def named(resources: list[Resource], kind: str, name: str) -> Resource:
    [found] = [each for each in of_kind(resources, kind) if each["metadata"]["name"] == name]
    return found


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    for each in of_kind(resources, "Deployment", "StatefulSet"):
        yield each["metadata"]["name"], each["spec"]["template"]


def files() -> list[Path]:
    return [path for path in sorted(HOME.rglob("*.yaml")) if path.name != "kustomization.yaml"]


def check(document: Resource) -> None:
    """Raises unless the document matches its kind's schema and has no other field."""
    if document["kind"] in CUSTOM:
        jsonschema.validate(document, custom_schema(document["kind"]))
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@cache
def custom_schema(kind: str) -> Any:
    module, version, folder, name = CUSTOM[kind]
    definition = yaml.safe_load((go_module(module, version) / folder / name).read_text())
    [served] = definition["spec"]["versions"]
    schema = served["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}
    return closed(schema)


def closed(schema: Any) -> Any:
    """The schema, changed so that its objects may have no fields that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_every_file_is_strictly_of_its_kinds_schemas(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        check(document)


def test_what_is_rendered_is_strictly_of_its_kinds_schemas(resources: list[Resource]) -> None:
    for document in resources:
        check(document)


def test_a_misspelt_field_is_found(example: list[Resource]) -> None:
    for kind in ("Deployment", "ScaledObject", "PodMonitor"):
        document = next(of_kind(example, kind))
        with pytest.raises(jsonschema.ValidationError):
            check(document | {"spec": document["spec"] | {"replica": 1}})


def test_each_service_runs_a_command_that_exists(resources: list[Resource]) -> None:
    found = dict(pods(resources))
    assert found.keys() - {"webhooks", "standings"} == {"edge", "worker", "sink", "console"}
    for name, pod in found.items():
        [container] = pod["spec"]["containers"]
        command, *arguments = container["args"]
        assert command == name
        known = main.commands[command]
        if isinstance(known, click.Group):
            known = known.commands[arguments.pop(0)]
        options = {option for parameter in known.params for option in parameter.opts}
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        for option, folder in zip(arguments[::2], arguments[1::2], strict=True):
            assert option in options
            assert folder in mounted


def test_services_that_are_alone_are_never_two_at_once(example: list[Resource]) -> None:
    for name in ("webhooks", "standings"):
        spec = named(example, "Deployment", name)["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_no_pod_runs_as_root_or_writes_outside_its_volumes(resources: list[Resource]) -> None:
    for name, pod in pods(resources):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert {"/var/lib/roundhouse", "/tmp"} <= mounted, name
            assert "memory" in container["resources"]["limits"], name


def test_every_probe_asks_the_status_port_that_the_settings_name(resources: list[Resource]) -> None:
    [settings] = of_kind(resources, "ConfigMap")
    port = int(settings["data"]["ROUNDHOUSE_STATUS_PORT"])
    assert settings["data"]["ROUNDHOUSE_STATUS_HOST"] == "0.0.0.0"
    for name, pod in pods(resources):
        [container] = pod["spec"]["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert ports["status"] == port, name
        for probe, path in (
            ("startupProbe", "/livez"),
            ("livenessProbe", "/livez"),
            ("readinessProbe", "/readyz"),
        ):
            assert container[probe]["httpGet"] == {"path": path, "port": "status"}, name


def test_settings_have_names_that_exist_and_no_secret_is_among_them(
    resources: list[Resource],
) -> None:
    known = {f"ROUNDHOUSE_{name.upper()}" for name in Settings.model_fields}
    [settings] = of_kind(resources, "ConfigMap")
    assert settings["data"].keys() <= known
    secret = {name for name in known if name.endswith(("PASSWORD", "_DSN", "USERNAME"))}
    assert not settings["data"].keys() & secret
    for name, pod in pods(resources):
        [container] = pod["spec"]["containers"]
        assert {each["name"] for each in container.get("env", [])} <= known, name
        assert {"secretRef": {"name": "roundhouse-credentials"}} in container["envFrom"], name
    assert not list(of_kind(resources, "Secret"))
    Settings(
        **{key.removeprefix("ROUNDHOUSE_").lower(): value for key, value in settings["data"].items()}
    )


def test_workers_keep_their_state_and_leave_one_at_a_time(resources: list[Resource]) -> None:
    worker = named(resources, "StatefulSet", "worker")
    [claim] = worker["spec"]["volumeClaimTemplates"]
    [container] = worker["spec"]["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == "/var/lib/roundhouse"
    for name in ("edge", "worker"):
        budget = named(resources, "PodDisruptionBudget", name)
        assert budget["spec"]["maxUnavailable"] == 1
        labels = dict(pods(resources))[name]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_every_service_and_policy_selects_pods_that_exist(resources: list[Resource]) -> None:
    labels = [pod["metadata"]["labels"].items() for _, pod in pods(resources)]
    for service in of_kind(resources, "Service"):
        assert any(service["spec"]["selector"].items() <= each for each in labels)
    for policy in of_kind(resources, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        wanted = selector.get("matchLabels", {}).items()
        assert any(wanted <= each for each in labels), policy["metadata"]["name"]
    closed = named(resources, "NetworkPolicy", "roundhouse")
    assert closed["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_keda_scales_workers_by_topics_of_the_line_up_to_the_partitions(
    example: list[Resource],
) -> None:
    [settings] = of_kind(example, "ConfigMap")
    [scaled] = of_kind(example, "ScaledObject")
    prefix = Settings.model_fields["topic_prefix"].default
    assert scaled["spec"]["maxReplicaCount"] == int(settings["data"]["ROUNDHOUSE_PARTITIONS"])
    for trigger, topic in zip(scaled["spec"]["triggers"], (RAW, STAGED), strict=True):
        assert trigger["metadata"]["topic"] == prefix + topic
        assert trigger["metadata"]["consumerGroup"] == f"{prefix}line"
        assert trigger["metadata"]["bootstrapServers"] == settings["data"]["ROUNDHOUSE_KAFKA_BOOTSTRAP"]
    worker = named(example, "StatefulSet", "worker")
    assert "replicas" not in worker["spec"]  # else each `kubectl apply` would undo the scaling


def test_with_tls_every_pod_has_the_authority_that_its_settings_name(example: list[Resource]) -> None:
    [settings] = of_kind(example, "ConfigMap")
    assert settings["data"]["ROUNDHOUSE_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    for name, pod in pods(example):
        [container] = pod["spec"]["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        assert volumes["authority"]["secret"] == {"secretName": "roundhouse-authority"}, name
        for setting in ("ROUNDHOUSE_KAFKA_CA_FILE", "ROUNDHOUSE_CLICKHOUSE_CA_FILE"):
            assert settings["data"][setting] == f"{mounts['authority']}/ca.pem"
