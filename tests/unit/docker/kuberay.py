"""The fields of KubeRay 1.6's objects that docker/ uses, as a schema; anything else is refused.

No package ships KubeRay's own definitions. These follow its API reference (ray.io/v1: RayCluster, RayJob, AuthOptions,
AutoscalerOptions, HeadGroupSpec, WorkerGroupSpec); pods are checked by Kubernetes' schemas.
"""

from typing import Any

_CORE = "/api/_definitions.json#/$defs/io.k8s.api.core.v1."
_META = "/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_COUNT = {"type": "integer", "minimum": 0}


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _core(name: str) -> dict[str, str]:
    return {"$ref": _CORE + name}


_START = {"type": "object", "additionalProperties": {"type": "string"}}
_AUTOSCALER = _closed(
    [],
    idleTimeoutSeconds=_COUNT,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    resources=_core("ResourceRequirements"),
    securityContext=_core("SecurityContext"),
    volumeMounts={"type": "array", "items": _core("VolumeMount")},
)
_HEAD = _closed(
    ["rayStartParams", "template"],
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    rayStartParams=_START,
    template=_core("PodTemplateSpec"),
)
_WORKERS = _closed(
    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
    groupName={"type": "string", "pattern": "^[a-z][a-z0-9-]*$"},
    replicas=_COUNT,
    minReplicas=_COUNT,
    maxReplicas=_COUNT,
    rayStartParams=_START,
    template=_core("PodTemplateSpec"),
)
_CLUSTER = _closed(
    ["headGroupSpec", "rayVersion"],
    rayVersion={"type": "string"},
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=_AUTOSCALER,
    authOptions=_closed(["mode"], mode={"enum": ["token", "disabled"]}, secretName={"type": "string"}),
    headGroupSpec=_HEAD,
    workerGroupSpecs={"type": "array", "items": _WORKERS},
)
_JOB = _closed(
    ["entrypoint", "rayClusterSpec"],
    entrypoint={"type": "string"},
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    backoffLimit=_COUNT,
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=_COUNT,
    rayClusterSpec=_CLUSTER,
)


def _object(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "$id": f"https://kubernetes.io/api/{kind.lower()}",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_closed(
            ["apiVersion", "kind", "metadata", "spec"],
            apiVersion={"const": "ray.io/v1"},
            kind={"const": kind},
            metadata={"$ref": _META},
            spec=spec,
        ),
    }


SCHEMAS = {kind: _object(kind, spec) for kind, spec in (("RayCluster", _CLUSTER), ("RayJob", _JOB))}
