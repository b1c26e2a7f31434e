"""What Fluent Bit is told: which lines go to which group of CloudWatch Logs. Plain values, without Pulumi."""

from __future__ import annotations

from typing import Any

_INPUTS = """[INPUT]
    Name tail
    Path /var/log/containers/*_imports_*.log
    Tag imports.*
    multiline.parser cri
    DB /var/fluent-bit/state/imports.db
    Mem_Buf_Limit 20MB
    Skip_Long_Lines On
    Refresh_Interval 5

[INPUT]
    Name tail
    Path /var/log/containers/*.log
    Exclude_Path /var/log/containers/*_imports_*.log
    Tag platform.*
    multiline.parser cri
    DB /var/fluent-bit/state/platform.db
    Mem_Buf_Limit 20MB
    Skip_Long_Lines On
    Refresh_Interval 5
"""

# Our lines are JSON already: their fields come to the top, where the saved queries look for them.
_FILTERS = """[FILTER]
    Name kubernetes
    Match imports.*
    Kube_Tag_Prefix imports.var.log.containers.
    Merge_Log On
    Keep_Log Off
    Labels Off
    Annotations Off
    Buffer_Size 0

[FILTER]
    Name kubernetes
    Match platform.*
    Kube_Tag_Prefix platform.var.log.containers.
    Merge_Log Off
    Labels Off
    Annotations Off
    Buffer_Size 0

[FILTER]
    Name rewrite_tag
    Match imports.*
    Rule $level ^(error|critical)$ errors.$TAG true
    Emitter_Name errors
    Emitter_Storage.type filesystem
"""


def _output(match: str, group: str, region: str) -> str:
    return f"""[OUTPUT]
    Name cloudwatch_logs
    Match {match}
    region {region}
    log_group_name {group}
    log_stream_prefix ${{HOST_NAME}}.
    auto_create_group false
    Retry_Limit 10
"""


def fluent_bit_values(
    *, region: str, application: str, errors: str, platform: str, account: str
) -> dict[str, Any]:
    """Write the chart's values: `application`, `errors`, `platform` are groups, `account` the ServiceAccount."""
    outputs = [
        _output("imports.*", application, region),
        _output("errors.*", errors, region),
        _output("platform.*", platform, region),
    ]
    return {
        "kind": "DaemonSet",
        "serviceAccount": {"create": True, "name": account},
        "rbac": {"create": True, "nodeAccess": False},
        # Workers' nodes too.
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-node-critical",
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]},
        },
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "env": [{"name": "HOST_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "daemonSetVolumes": [
            {"name": "varlog", "hostPath": {"path": "/var/log"}},
            {"name": "state", "hostPath": {"path": "/var/fluent-bit/state", "type": "DirectoryOrCreate"}},
        ],
        "daemonSetVolumeMounts": [
            {"name": "varlog", "mountPath": "/var/log", "readOnly": True},
            {"name": "state", "mountPath": "/var/fluent-bit/state"},
        ],
        "config": {
            "service": (
                "[SERVICE]\n"
                "    Flush 5\n"
                "    Log_Level warn\n"
                "    HTTP_Server On\n"
                "    HTTP_Listen 0.0.0.0\n"
                "    HTTP_Port 2020\n"
                "    Health_Check On\n"
                "    storage.path /var/fluent-bit/state/buffers\n"
            ),
            "inputs": _INPUTS,
            "filters": _FILTERS,
            "outputs": "\n".join(outputs),
        },
    }
