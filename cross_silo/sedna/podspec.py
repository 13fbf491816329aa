"""The names of Kubernetes' PodSpec and Container fields (core/v1): those without a use here are accepted and noted."""

from __future__ import annotations

from typing import FrozenSet


def _names(text: str) -> FrozenSet[str]:
    return frozenset(text.split())


POD_SPEC = _names(
    """activeDeadlineSeconds affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks
    ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers hostname hostnameOverride imagePullSecrets
    initContainers nodeSelector os overhead preemptionPolicy priority priorityClassName readinessGates resourceClaims
    resources restartPolicy runtimeClassName schedulerName schedulingGates securityContext serviceAccount
    serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations
    topologySpreadConstraints volumes"""
)
CONTAINER = _names(
    """envFrom lifecycle livenessProbe ports readinessProbe resizePolicy restartPolicy restartPolicyRules
    securityContext startupProbe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices
    volumeMounts workingDir"""
)
OBJECT_META = _names(
    """creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers generateName generation managedFields
    ownerReferences resourceVersion selfLink uid"""
)
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
"""Of the CRDs' schema."""
