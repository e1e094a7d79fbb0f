"""Rules, dashboard and scaler: tested by promtool, and by a real Prometheus that scrapes a real server."""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import jpeg
from tests.deploy.manifests import DEPLOY, of_kind, overlay
from tests.deploy.processes import free_port, program, until
from tests.deploy.tools import tool
from tests.serving import served

from gradserve import Client, GradserveError

pytestmark = pytest.mark.deploy

HERE = Path(__file__).parent
RULES: dict[str, Any] = yaml.safe_load((DEPLOY / "components/monitoring/rules.yaml").read_text())["spec"]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "components/monitoring/dashboard.json").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
RECORDED = [rule for group in RULES["groups"] for rule in group["rules"] if "record" in rule]

FOREIGN = {
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_GPU_UTIL",
    "container_memory_working_set_bytes",
    "kube_deployment_status_replicas_ready",
    "kube_pod_container_status_restarts_total",
}
"""What other exporters of a cluster count."""

SELECTOR = re.compile(r"\b((?:gradserve|grpc_server|kube|container|DCGM)[\w:]*|up)\b(?:\{[^}]*\})?")


def queries() -> dict[str, str]:
    """Returns the dashboard's queries by a name, with Grafana's variables filled in."""
    return {
        f"{panel['title']}, {target['refId']}": target["expr"]
        .replace("$namespace", ".+")
        .replace("$__rate_interval", "1m")
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    }


def scaled_by() -> list[str]:
    """Returns the autoscaler's queries."""
    (scaled,) = of_kind(overlay("gpu"), "ScaledObject")
    return [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]


@pytest.mark.parametrize("name", ["rules_test.yaml", "rules_over_days_test.yaml"])
def test_rules(name: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    shutil.copy(HERE / name, tmp_path)
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", name]):
        done = subprocess.run([tool("promtool"), *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_and_has_a_page_in_the_runbook() -> None:
    runbook = (DEPLOY / "README.md").read_text()
    tests = (HERE / "rules_test.yaml").read_text()
    for alert in ALERTS:
        name = alert["alert"]
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"
        assert f"### {name}\n" in runbook
        assert name in tests


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has scraped a server which was asked for all kinds of things."""
    folder = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
    with served(queue_size=8) as server:
        target = {
            "targets": [f"127.0.0.1:{server.metrics_port}"],
            # What discovery adds in a cluster.
            "labels": {"namespace": "gradserve", "pod": "gradserve-0"},
        }
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "gradserve", "static_configs": [target]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        address = f"127.0.0.1:{port}"
        with program(
            tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ):
            until(lambda: _up(address), "Prometheus")
            with Client(f"127.0.0.1:{server.port}", options=[("grpc.enable_retries", 0)]) as client:
                for seed in range(12):
                    client.explain(jpeg("coffee"), seed=seed)
                with pytest.raises(GradserveError):
                    client.explain(jpeg("coffee"), target="no such class")
                client.maximize(class_index=1, steps=8, size=64).result()
            until(lambda: bool(_ask(address, "gradserve:queue_wait_seconds:p95_rate5m")), "the recorded rules")
            until(lambda: _ask(address, "sum(grpc_server_handled_total)") >= [14.0], "the last request")
            yield address


def _up(address: str) -> bool:
    try:
        return _ask(address, "up") == [1.0]
    except OSError:
        return False


def _ask(address: str, query: str) -> list[float]:
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}") as answer:
        result = json.load(answer)["data"]["result"]
    return [float(series["value"][1]) for series in result]


def test_prometheus_takes_the_rules(prometheus: str) -> None:
    with urllib.request.urlopen(f"http://{prometheus}/api/v1/rules") as answer:
        groups = json.load(answer)["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(ALERTS) + len(RECORDED)
    assert {rule["health"] for rule in rules} == {"ok"}
    assert not [rule["name"] for rule in rules if rule.get("state") == "firing"]


def test_everything_that_is_recorded_has_a_value(prometheus: str) -> None:
    for rule in RECORDED:
        assert len(_ask(prometheus, rule["record"])) == 1, rule["record"]


def test_every_query_of_the_dashboard_has_data(prometheus: str) -> None:
    shown = queries()
    assert len(shown) > 30
    for name, query in shown.items():
        metrics = {match[1] for match in SELECTOR.finditer(query)}
        assert metrics, query
        found = _ask(prometheus, query)
        assert bool(found) == (not metrics & FOREIGN), (name, query)
        # Prometheus says NaN for a mean of nothing; a panel would be empty.
        if name.partition(",")[0] not in ("Duration by method", "Wait before the first pass"):
            assert all(value == value for value in found), (name, query, found)


def test_every_series_that_an_alert_looks_at_is_there(prometheus: str) -> None:
    for rule in [*ALERTS, *RECORDED]:
        for match in SELECTOR.finditer(rule["expr"]):
            # `up == 0` and the like are right to be empty, the series behind them is not.
            expected = match[1] not in FOREIGN
            assert bool(_ask(prometheus, f"count({match[0]})")) == expected, match[0]


def test_the_autoscaler_gets_one_number_from_each_query(prometheus: str) -> None:
    for query in scaled_by():
        assert len(_ask(prometheus, query)) == 1, query
