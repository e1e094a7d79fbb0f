"""Writes the Grafana dashboard of deploy/components/monitoring; `--check` says whether it is up to date."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "deploy/components/monitoring/dashboard.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8

OWN = '{namespace=~"$namespace"}'


@dataclass(frozen=True)
class Panel:
    """A graph.

    Attributes:
        title: What it shows.
        queries: Pairs of a legend and a query.
        unit: Grafana's name of the unit.
        help: What to read off it.
        kind: Grafana's name of the kind of panel.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    help: str = ""
    kind: str = "timeseries"


def _rate(metric: str, labels: str = "", by: str = "") -> str:
    selector = f'{metric}{{namespace=~"$namespace"{", " if labels else ""}{labels}}}'
    return f"sum{f' by ({by})' if by else ''} (rate({selector}[$__rate_interval]))"


def _quantile(quantile: float, metric: str, labels: str = "", by: str = "") -> str:
    return f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', labels, f'{by}, le' if by else 'le')})"


def _mean(metric: str) -> str:
    return f"{_rate(f'{metric}_sum')} / {_rate(f'{metric}_count')}"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Service": (
        Panel(
            "Replicas with their models loaded",
            (("replicas", f"count(max by (namespace, pod) (gradserve_model_info{OWN}))"),),
            kind="stat",
        ),
        Panel(
            "Error budget burnt, in budgets",
            (
                ("over 1 h", f"max(gradserve:errors:ratio_rate1h{OWN}) / 0.001"),
                ("over 6 h", f"max(gradserve:errors:ratio_rate6h{OWN}) / 0.001"),
                ("slow, over 1 h", f"max(gradserve:slow:ratio_rate1h{OWN}) / 0.01"),
                ("slow, over 6 h", f"max(gradserve:slow:ratio_rate6h{OWN}) / 0.01"),
            ),
            help="1 spends exactly what the objective allows; somebody is paged at 14.4 over an hour, at 6 over six.",
            kind="stat",
        ),
        Panel(
            "Requests by method",
            (("{{grpc_method}}", _rate("grpc_server_handled_total", by="grpc_method")),),
            "reqps",
        ),
        Panel(
            "Requests that did not end well, by code",
            (("{{grpc_code}}", _rate("grpc_server_handled_total", 'grpc_code!="OK"', "grpc_code")),),
            "reqps",
        ),
        Panel(
            "Duration of Explain",
            tuple(
                (f"p{quantile * 100:g}", _quantile(quantile, "grpc_server_handling_seconds", 'grpc_method="Explain"'))
                for quantile in (0.5, 0.95, 0.99)
            ),
            "s",
        ),
        Panel(
            "Duration by method, p95",
            (("{{grpc_method}}", _quantile(0.95, "grpc_server_handling_seconds", by="grpc_method")),),
            "s",
            "A stream lasts as long as its reader reads.",
        ),
    ),
    "Saturation": (
        Panel(
            "Programs live or waiting",
            (("{{priority}}", f"sum by (priority) (gradserve_queue_depth{OWN})"),),
            help="Iterative ones stay for all their steps; only interactive ones are a queue.",
        ),
        Panel(
            "Work that waits, in seconds of a device",
            (("seconds", f"sum(gradserve:queued_work_seconds:sum{OWN})"),),
            "s",
            "What the autoscaler keeps at a second for each replica.",
        ),
        Panel(
            "Wait before the first pass, p95",
            (("{{priority}}", _quantile(0.95, "gradserve_queue_wait_seconds", by="priority")),),
            "s",
        ),
        Panel(
            "Part of the time that devices run passes",
            (("{{pod}}", _rate("gradserve_device_seconds_total", by="pod")),),
            "percentunit",
            "At 1 a replica is full. Far below while programs wait: decoding or encoding is the bottleneck, add cores.",
        ),
        Panel(
            "Refused and abandoned",
            (
                ("refused: {{reason}}", _rate("gradserve_rejected_total", by="reason")),
                ("abandoned: {{reason}}", _rate("gradserve_abandoned_total", by="reason")),
            ),
            "reqps",
        ),
        Panel(
            "Requests in flight",
            (("{{method}}", f"sum by (method) (gradserve_inflight_requests{OWN})"),),
        ),
    ),
    "Core": (
        Panel(
            "Rows and programs in a pass, mean",
            (("rows", _mean("gradserve_pass_rows")), ("programs", _mean("gradserve_pass_programs"))),
            help="More than one program: callers share passes.",
        ),
        Panel(
            "Passes and rows",
            (
                ("passes", _rate("gradserve_pass_compute_seconds_count")),
                ("rows", _rate("gradserve_pass_rows_sum")),
            ),
            "ops",
        ),
        Panel(
            "Duration of a pass",
            tuple(
                (f"p{quantile * 100:g}", _quantile(quantile, "gradserve_pass_compute_seconds"))
                for quantile in (0.5, 0.95)
            ),
            "s",
        ),
        Panel(
            "Passes halved for lack of memory",
            (("{{pod}}", _rate("gradserve_pass_out_of_memory_total", by="pod")),),
            "ops",
        ),
    ),
    "Streams": (
        Panel(
            "Messages sent by streams",
            (("{{grpc_method}}", _rate("grpc_server_msg_sent_total", 'grpc_type="server_stream"', "grpc_method")),),
            "ops",
            "A slow reader gets fewer: the latest progress wins.",
        ),
        Panel(
            "Messages received",
            (("{{grpc_method}}", _rate("grpc_server_msg_received_total", by="grpc_method")),),
            "ops",
        ),
        Panel(
            "Requests begun and not yet ended",
            (
                (
                    "{{grpc_method}}",
                    f"sum by (grpc_method) (grpc_server_started_total{OWN}) - "
                    f"sum by (grpc_method) (grpc_server_handled_total{OWN})",
                ),
            ),
        ),
    ),
    "Models": (
        Panel(
            "Models that are served",
            (
                (
                    "{{model}} {{version}} {{precision}}",
                    f"count by (model, version, precision) (gradserve_model_info{OWN})",
                ),
            ),
            help="Two versions of a model for longer than a rollout: something holds one back.",
        ),
        Panel("Time to load and measure", (("{{model}}", f"max by (model) (gradserve_model_load_seconds{OWN})"),), "s"),
        Panel("Rows per pass in force", (("{{model}}", f"max by (model) (gradserve_calibrated_pass_rows{OWN})"),)),
        Panel(
            "Time of a row with its gradient, in a full pass",
            (("{{model}} on {{pod}}", f"gradserve_calibrated_row_seconds{OWN}"),),
            "s",
            "A replica far above the others has a slow or shared device.",
        ),
    ),
    "Replicas": (
        Panel("Versions", (("{{version}}", f"count by (version) (gradserve_build_info{OWN})"),)),
        Panel("Scraped", (("{{pod}}", 'up{job="gradserve", namespace=~"$namespace"}'),)),
        Panel(
            "Restarts in an hour (kube-state-metrics)",
            (
                (
                    "{{pod}}",
                    "sum by (pod) (increase(kube_pod_container_status_restarts_total"
                    '{container="gradserve", namespace=~"$namespace"}[1h]))',
                ),
            ),
        ),
        Panel(
            "Memory (cAdvisor)",
            (
                (
                    "{{pod}}",
                    'container_memory_working_set_bytes{container="gradserve", namespace=~"$namespace"}',
                ),
            ),
            "bytes",
        ),
        Panel(
            "GPU in use (DCGM exporter)",
            (("{{pod}}", f"DCGM_FI_DEV_GPU_UTIL{OWN}"),),
            "percent",
        ),
        Panel(
            "GPU memory in use (DCGM exporter)",
            (("{{pod}}", f"DCGM_FI_DEV_FB_USED{OWN}"),),
            "decmbytes",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """Returns the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "gridPos": _place(top, 0, WIDTH, 1)})
        top += 1
        columns = 2 if len(row) % 3 else 3
        for index, panel in enumerate(row):
            line, column = divmod(index, columns)
            width = WIDTH // columns
            panels.append(_panel(panel, _place(top + line * HEIGHT, column * width, width, HEIGHT)))
        top += -(-len(row) // columns) * HEIGHT
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return {
        "uid": "gradserve",
        "title": "gradserve",
        "tags": ["gradserve"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": [_datasource(), _namespace()]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _place(top: int, left: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "gridPos": place,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _namespace() -> dict[str, Any]:
    return {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(gradserve_build_info, namespace)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> int:
    """Writes or checks the file; returns 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the file is out of date")
    check = parser.parse_args().check
    text = json.dumps(dashboard(), indent=2) + "\n"
    if check:
        if not TARGET.exists() or TARGET.read_text() != text:
            print(f"{TARGET.name} is out of date: run `make generate`", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
