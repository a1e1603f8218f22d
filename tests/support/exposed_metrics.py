"""The metrics that a server exposes, with their labels: the only ones for dashboard and alerts."""

# Added by Prometheus to every metric of a pod.
TARGET = {"namespace", "pod", "service", "job", "instance", "endpoint", "container"}

COUNTERS_AND_GAUGES = {
    "serving_requests_total": {"status"},
    "serving_errors_total": {"rule"},
    "serving_predictions_total": {"label"},
    "serving_unknown_total": {"by"},
    "serving_probes_total": set(),
    "serving_model_info": {"name", "version"},
    "serving_switches_total": {"result"},
    "serving_repairs_total": {"action", "result"},
    "serving_shadowed_total": {"result"},
    "serving_shadow_figure": {"version", "figure"},
    "serving_output_lines_dropped": set(),
    "serving_drift": set(),
    "serving_drift_effect": {"test"},
    "serving_drift_images": set(),
    "serving_drift_timestamp_seconds": set(),
    "serving_http_requests_total": {"status"},
    "serving_http_refusals_total": {"rule"},
}
HISTOGRAMS = (
    "serving_http_request_seconds",
    "serving_request_seconds",
    "serving_batch_size",
    "serving_nearest_distance",
)

# TorchServe's own metrics that are used here.
TORCHSERVE = {
    "WorkerLoadTime": {"WorkerName", "Level", "Hostname"},
    "ts_inference_requests_total": {"model_name", "model_version", "hostname"},
    "ts_queue_latency_microseconds": {"model_name", "model_version", "hostname"},
}

# From kube-state-metrics.
KUBERNETES = {
    "kube_deployment_status_replicas_available": {"deployment"},
    "kube_deployment_spec_replicas": {"deployment"},
}

SERVED = {
    **COUNTERS_AND_GAUGES,
    **{
        name + part: {"le"} if part == "_bucket" else set()
        for name in HISTOGRAMS
        for part in ("_bucket", "_sum", "_count")
    },
    **TORCHSERVE,
}
