"""Which fields our custom resources use. Their kinds' own schemas come with the operators, not with Kubernetes.

A field that is not here is a slip, or new: look it up in the kind's definition before adding it. These are in the
definitions of the Gateway API, KEDA, cert-manager and the Prometheus operator as of August 2026.
"""

import re

_CERTIFICATE = """
    spec.secretName spec.duration spec.renewBefore spec.isCA spec.commonName spec.dnsNames spec.usages
    spec.privateKey.algorithm spec.privateKey.size spec.privateKey.rotationPolicy
    spec.issuerRef.name spec.issuerRef.kind
"""
_FIELDS = {
    ("cert-manager.io/v1", "Certificate"): _CERTIFICATE,
    ("cert-manager.io/v1", "Issuer"): "spec.selfSigned spec.ca.secretName",
    ("gateway.networking.k8s.io/v1", "Gateway"): """
        spec.gatewayClassName spec.listeners.name spec.listeners.port spec.listeners.protocol spec.listeners.hostname
        spec.listeners.allowedRoutes.namespaces.from spec.listeners.tls.mode spec.listeners.tls.certificateRefs.name
        spec.tls.backend.clientCertificateRef.name
        spec.tls.frontend.default.validation.mode spec.tls.frontend.default.validation.caCertificateRefs.group
        spec.tls.frontend.default.validation.caCertificateRefs.kind
        spec.tls.frontend.default.validation.caCertificateRefs.name
    """,
    ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"): """
        spec.targetRefs.group spec.targetRefs.kind spec.targetRefs.name spec.validation.hostname
        spec.validation.caCertificateRefs.group spec.validation.caCertificateRefs.kind
        spec.validation.caCertificateRefs.name
    """,
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): """
        spec.parentRefs.name spec.hostnames spec.rules.matches.method.service spec.rules.backendRefs.name
        spec.rules.backendRefs.port
    """,
    ("keda.sh/v1alpha1", "ScaledObject"): """
        spec.scaleTargetRef.name spec.minReplicaCount spec.maxReplicaCount spec.pollingInterval spec.cooldownPeriod
        spec.fallback.failureThreshold spec.fallback.replicas spec.fallback.behavior
        spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilizationWindowSeconds
        spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds
        spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies.type
        spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies.value
        spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies.periodSeconds
        spec.triggers.type spec.triggers.metricType spec.triggers.metadata.serverAddress spec.triggers.metadata.query
        spec.triggers.metadata.threshold spec.triggers.metadata.activationThreshold
    """,
    ("monitoring.coreos.com/v1", "PodMonitor"): """
        spec.jobLabel spec.selector.matchLabels.app.kubernetes.io/name spec.podMetricsEndpoints.port
        spec.podMetricsEndpoints.interval
    """,
    ("monitoring.coreos.com/v1", "PrometheusRule"): """
        spec.groups.name spec.groups.rules.record spec.groups.rules.alert spec.groups.rules.expr spec.groups.rules.for
        spec.groups.rules.labels.severity spec.groups.rules.labels.window spec.groups.rules.annotations.summary
        spec.groups.rules.annotations.description spec.groups.rules.annotations.runbook
    """,
}
FIELDS = {kind: frozenset(re.split(r"\s+", text.strip())) for kind, text in _FIELDS.items()}
