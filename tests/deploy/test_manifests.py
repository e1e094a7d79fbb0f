"""The manifests: what Kubernetes' schemas say of them, and what no schema can."""

import re
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml
from tests.deploy.custom_resources import FIELDS
from tests.deploy.manifests import (
    COMPONENTS,
    DEPLOY,
    OVERLAYS,
    Manifest,
    explainer,
    of_kind,
    overlay,
    paths,
    pods,
    render,
    with_components,
)
from tests.deploy.tools import tool

from gradserve_server.app import SERVICE
from gradserve_server.config import ENVIRONMENT_PREFIX, Settings, parse_settings
from gradserve_server.observability.health import LIVENESS

pytestmark = pytest.mark.deploy

CLUSTER_SCOPED = {"Namespace", "PriorityClass"}


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    return overlay(request.param)


@pytest.mark.parametrize("name", OVERLAYS)
def test_kubernetes_own_schemas(name: str, tmp_path: Path) -> None:
    rendered = tmp_path / "manifests.yaml"
    rendered.write_text(render(DEPLOY / "overlays" / name))
    done = subprocess.run([tool("kubernetes-validate"), "--strict", rendered], capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "ERROR" not in said
    # It only warns of kinds it has no schema for; those are checked below.
    unknown = {(match[2], match[1]) for match in re.finditer(r"schema for kind (\S+) with api version (\S+)", said)}
    assert unknown <= set(FIELDS)
    assert said.count(" passed ") + said.count("WARN") == len(overlay(name))


def test_custom_resources_have_no_field_their_kind_does_not_know(manifests: tuple[Manifest, ...]) -> None:
    for manifest in manifests:
        known = FIELDS.get((manifest["apiVersion"], manifest["kind"]))
        if known is not None:
            assert set(paths({"spec": manifest["spec"]})) <= known


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_component_stands_alone_on_the_base(name: str, tmp_path: Path) -> None:
    needs = {"mtls": ["gateway"]}
    manifests = with_components(tmp_path, *needs.get(name, []), name)
    assert explainer(manifests)
    mounts = {mount["mountPath"]: mount for mount in _container(manifests)["volumeMounts"]}
    assert ("/models" in mounts) == name.startswith("model-volume")
    if "/models" in mounts:
        assert mounts["/models"]["readOnly"]


def test_objects_are_in_one_namespace_which_queries_name(manifests: tuple[Manifest, ...]) -> None:
    (namespace,) = of_kind(manifests, "Namespace")
    name = namespace["metadata"]["name"]
    for manifest in manifests:
        if manifest["kind"] not in CLUSTER_SCOPED:
            assert manifest["metadata"]["namespace"] == name
    for scaled in of_kind(manifests, "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            assert f'namespace="{name}"' in trigger["metadata"]["query"]


def test_selectors_select(manifests: tuple[Manifest, ...]) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(manifests)]
    for deployment in of_kind(manifests, "Deployment"):
        wanted = deployment["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        for spread in deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            assert spread["labelSelector"]["matchLabels"] == wanted
    selectors = [manifest["spec"]["selector"] for manifest in of_kind(manifests, "Service")]
    selectors += [
        manifest["spec"]["selector"]["matchLabels"]
        for manifest in of_kind(manifests, "PodDisruptionBudget", "PodMonitor")
    ]
    selectors += [manifest["spec"]["podSelector"]["matchLabels"] for manifest in of_kind(manifests, "NetworkPolicy")]
    assert len(selectors) >= 4
    for selector in selectors:
        assert sum(selector.items() <= given.items() for given in labels) == 1
    # Each selected service shows in `job`, which the rules ask for.
    for monitor in of_kind(manifests, "PodMonitor"):
        assert (
            explainer(manifests)["spec"]["template"]["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "gradserve"
        )


def test_ports_exist(manifests: tuple[Manifest, ...]) -> None:
    ports = {port["name"]: port["containerPort"] for port in _container(manifests)["ports"]}
    settings = _settings(manifests)
    assert ports == {
        "grpc": int(settings.listen.rpartition(":")[2]),
        "operations": int(settings.operations.rpartition(":")[2]),
        "metrics": int(settings.metrics.rpartition(":")[2]),
    }
    everywhere = {port["name"] for pod in pods(manifests) for port in pod["spec"]["containers"][0]["ports"]}
    services = {}
    for service in of_kind(manifests, "Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in everywhere
            services[service["metadata"]["name"], port["port"]] = service
    for policy in of_kind(manifests, "NetworkPolicy"):
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= set(ports)
    for monitor in of_kind(manifests, "PodMonitor"):
        assert [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]
    for route in of_kind(manifests, "GRPCRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert (backend["name"], backend["port"]) in services


def test_probes_ask_for_names_that_the_server_answers(manifests: tuple[Manifest, ...]) -> None:
    container = _container(manifests)
    asked = {kind: container[f"{kind}Probe"]["grpc"] for kind in ("startup", "readiness", "liveness")}
    assert {kind: probe["service"] for kind, probe in asked.items()} == {
        "startup": SERVICE,
        "readiness": SERVICE,
        "liveness": LIVENESS,
    }
    # Where neither certificate nor token is asked for.
    (port,) = [port["containerPort"] for port in container["ports"] if port["name"] == "operations"]
    assert {probe["port"] for probe in asked.values()} == {port}


def test_what_the_environment_says_is_understood(manifests: tuple[Manifest, ...]) -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.__dataclass_fields__}
    assert {name for name in _environment(manifests) if name.startswith(ENVIRONMENT_PREFIX)} <= known
    assert _settings(manifests)
    # Kubernetes would otherwise add variables of the same prefix for the Service.
    assert explainer(manifests)["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_grace_is_enough_for_what_happens_in_it(manifests: tuple[Manifest, ...]) -> None:
    pod = explainer(manifests)["spec"]["template"]["spec"]
    before = _container(manifests)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before >= 5
    assert pod["terminationGracePeriodSeconds"] > before + _settings(manifests).drain_seconds


def test_pods_meet_the_restricted_standard_and_cannot_write(manifests: tuple[Manifest, ...]) -> None:
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(manifests):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert all(
            set(volume) & {"emptyDir", "persistentVolumeClaim", "image", "secret"} for volume in volumes.values()
        )
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            for mount in container["volumeMounts"]:
                assert mount.get("readOnly") or "emptyDir" in volumes[mount["name"]]


def test_one_process_has_one_device_and_reserves_what_it_uses(manifests: tuple[Manifest, ...]) -> None:
    resources = _container(manifests)["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" in resources["requests"]
    assert "cpu" not in resources["limits"]
    on_gpu = _environment(manifests)["GRADSERVE_DEVICE"].startswith("cuda")
    assert resources["limits"].get("nvidia.com/gpu") == ("1" if on_gpu else None)
    pod = explainer(manifests)["spec"]["template"]["spec"]
    assert len(pod["containers"]) == 1
    if on_gpu:
        assert resources["requests"]["nvidia.com/gpu"] == "1"
        assert any(toleration["key"] == "nvidia.com/gpu" for toleration in pod["tolerations"])
        # A cluster whose GPUs are all taken could never start a surplus replica.
        rolling = explainer(manifests)["spec"]["strategy"]["rollingUpdate"]
        assert (rolling["maxSurge"], rolling["maxUnavailable"]) == (0, 1)


def test_the_number_of_replicas_has_one_owner(manifests: tuple[Manifest, ...]) -> None:
    scalers = of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject")
    assert len(scalers) <= 1
    assert ("replicas" in explainer(manifests)["spec"]) == (not scalers)
    for scaler in scalers:
        assert scaler["spec"]["scaleTargetRef"]["name"] == "gradserve"


def test_certificates_are_where_they_are_looked_for(manifests: tuple[Manifest, ...]) -> None:
    certificates = {one["metadata"]["name"]: one["spec"] for one in of_kind(manifests, "Certificate")}
    secrets = {certificate["secretName"] for certificate in certificates.values()}
    issuers = {one["metadata"]["name"] for one in of_kind(manifests, "Issuer")}
    assert {certificate["issuerRef"]["name"] for certificate in certificates.values()} <= issuers
    for issuer in of_kind(manifests, "Issuer"):
        assert issuer["spec"].get("ca", {}).get("secretName", "gradserve-authority") in secrets
    for gateway in of_kind(manifests, "Gateway"):
        for listener in gateway["spec"]["listeners"]:
            for reference in listener.get("tls", {}).get("certificateRefs", []):
                assert reference["name"] in secrets
                (shown,) = [one for one in certificates.values() if one["secretName"] == reference["name"]]
                assert listener["hostname"] in shown["dnsNames"]
        for reference in (
            gateway["spec"].get("tls", {}).get("frontend", {}).get("default", {}).get("validation", {})
        ).get("caCertificateRefs", []):
            assert reference["name"] in secrets


def test_what_the_server_shows_is_a_certificate_for_the_names_callers_use(manifests: tuple[Manifest, ...]) -> None:
    (namespace,) = of_kind(manifests, "Namespace")
    certificates = {one["spec"]["secretName"]: one["spec"] for one in of_kind(manifests, "Certificate")}
    settings = _settings(manifests)
    secured = settings.tls_certificate is not None
    assert secured == bool(certificates)
    for service in of_kind(manifests, "Service"):
        if service["metadata"]["name"].startswith("gradserve"):
            assert not secured or "appProtocol" not in service["spec"]["ports"][0]
    if not secured:
        return
    volumes = {one["name"]: one for one in explainer(manifests)["spec"]["template"]["spec"]["volumes"]}
    (mount,) = [one for one in _container(manifests)["volumeMounts"] if one["name"] == "certificates"]
    for path in (settings.tls_certificate, settings.tls_key, settings.tls_client_authorities):
        assert path is not None
        assert str(path.parent) == mount["mountPath"]
    shown = certificates[volumes["certificates"]["secret"]["secretName"]]
    for service in of_kind(manifests, "Service"):
        assert f"{service['metadata']['name']}.{namespace['metadata']['name']}" in shown["dnsNames"]
    (policy,) = of_kind(manifests, "BackendTLSPolicy")
    assert policy["spec"]["validation"]["hostname"] in shown["dnsNames"]
    (gateway,) = of_kind(manifests, "Gateway")
    presented = certificates[gateway["spec"]["tls"]["backend"]["clientCertificateRef"]["name"]]
    assert "client auth" in presented["usages"]
    # Who has no common name is nobody, and the server refuses them.
    assert all("commonName" in one for one in certificates.values() if "client auth" in one.get("usages", ()))


def test_tokens_are_mounted_where_the_server_looks(tmp_path: Path) -> None:
    manifests = with_components(tmp_path, "tokens")
    path = _settings(manifests).tokens
    assert path is not None
    (mount,) = [one for one in _container(manifests)["volumeMounts"] if one["name"] == "tokens"]
    # A file mounted by `subPath` never changes.
    assert "subPath" not in mount
    assert str(path.parent) == mount["mountPath"]


def test_routes_go_to_listeners_by_service_name() -> None:
    manifests = overlay("beside-predictor")
    (gateway,), (route,) = of_kind(manifests, "Gateway"), of_kind(manifests, "GRPCRoute")
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    assert route["spec"]["hostnames"] == [listener["hostname"] for listener in gateway["spec"]["listeners"]]
    to = {
        match["method"]["service"]: backend["name"]
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
        for backend in rule["backendRefs"]
    }
    assert to[SERVICE] == "gradserve"
    assert to["inference.GRPCInferenceService"] == "predictor"


def test_explainer_and_predictor_read_the_same_models_and_the_predictor_goes_first() -> None:
    manifests = overlay("beside-predictor")
    claims = [
        volume["persistentVolumeClaim"]
        for pod in pods(manifests)
        for volume in pod["spec"]["volumes"]
        if volume["name"] == "models"
    ]
    (claim,) = of_kind(manifests, "PersistentVolumeClaim")
    assert claims == [{"claimName": claim["metadata"]["name"], "readOnly": True}] * 2
    (priority,) = of_kind(manifests, "PriorityClass")
    assert explainer(manifests)["spec"]["template"]["spec"]["priorityClassName"] == priority["metadata"]["name"]
    assert priority["value"] < 0


def test_images_name_no_registry(manifests: tuple[Manifest, ...]) -> None:
    images = list(chain.from_iterable(pod["spec"]["containers"] for pod in pods(manifests)))
    for container in images:
        assert "/" not in container["image"]
    assert ":" in _container(manifests)["image"]


def test_manifests_are_read_without_warnings() -> None:
    for path in DEPLOY.rglob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text())), path


def _container(manifests: tuple[Manifest, ...]) -> Manifest:
    container: Manifest = explainer(manifests)["spec"]["template"]["spec"]["containers"][0]
    return container


def _environment(manifests: tuple[Manifest, ...]) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in _container(manifests)["env"]}


def _settings(manifests: tuple[Manifest, ...]) -> Settings:
    flags = [
        part
        for name, value in _environment(manifests).items()
        if name.startswith(ENVIRONMENT_PREFIX)
        for part in (f"--{name.removeprefix(ENVIRONMENT_PREFIX).lower().replace('_', '-')}", value)
    ]
    return parse_settings(flags)
