use serde_json::{Value, json};

use crate::migration::compatible_values;

/// Values that users may give, and the rights that the pods then have.
pub(super) fn cases() -> Vec<(Value, &'static [&'static str])> {
    const LABELS: [&str; 3] = ["get persistentvolumes", "get persistentvolumeclaims", "watch pods"];
    const STATS: &str = "get nodes/stats";
    const METRICS: &str = "get nodes/metrics";
    const NAMES: [&str; 4] = [LABELS[0], LABELS[1], LABELS[2], METRICS];
    const BOTH: [&str; 4] = [LABELS[0], LABELS[1], LABELS[2], STATS];
    vec![
        (json!({}), &LABELS),
        (json!({"mode": "hardened"}), &LABELS),
        (json!({"mode": "hardened", "kubelet": {"root": "/var/lib/k0s/kubelet"}}), &LABELS),
        (json!({"mode": "kubeletOnly"}), &[STATS]),
        (json!({"mode": "kubeletOnly", "kubeletVolumeStats": "missing"}), &[STATS, METRICS]),
        (json!({"sources": ["mounts"], "kubernetes": "required"}), &LABELS),
        (json!({"sources": ["mounts", "kubelet"]}), &BOTH),
        (json!({"mode": "hardened", "sources": ["kubelet"]}), &[STATS]),
        (json!({"kubeletVolumeStats": "all", "kubeletVolumeStatsLabels": "pod"}), &LABELS),
        (json!({"kubeletVolumeStats": "missing", "kubernetes": "off"}), &[METRICS]),
        (json!({"kubernetes": false, "kubeletVolumeStats": false}), &[]),
        (json!({"rbac": {"create": false}, "serviceAccount": {"create": false, "name": "own"}}), &[]),
        (compatible_values(), &[STATS]),
        (
            json!({
                "sources": ["mounts", "kubelet"],
                "logLevel": "debug",
                "pvLabels": "",
                "pvcLabels": "team,app.kubernetes.io/*",
                "volumeLabels": "!team",
                "kubelet": {
                    "root": "/var/lib/k0s/kubelet",
                    "endpoint": "https://localhost:10250",
                    "ca": {"configMap": "kubelet-ca", "key": "bundle.pem"},
                    "serverName": "node",
                    "scrapeInterval": "1m30s",
                },
                "extraArgs": ["--stat-timeout=5s"],
                "extraEnv": [{"name": "DISK_USAGE_EXPORTER_LABEL_REFRESH", "value": "2h"}],
                "image": {"repository": "a/b", "digest": format!("sha256:{}", "0".repeat(64)), "pullPolicy": "Always"},
                "imagePullSecrets": [{"name": "secret"}],
                "nameOverride": "other",
                "serviceAccount": {"annotations": {"a": "b"}},
                "token": {"expirationSeconds": 600},
                "priorityClass": {"create": false, "name": "system-node-critical"},
                "resources": {},
                "updateStrategy": {"type": "OnDelete"},
                "podLabels": {"a": "b"},
                "nodeSelector": {"a": "b"},
                "tolerations": [],
                "affinity": {},
                "prometheusRule": {"enabled": true, "labels": {"a": "b"}},
                "dashboards": {"enabled": true, "annotations": {"grafana_folder": "Storage"}},
            }),
            &BOTH,
        ),
        (
            json!({"monitor": {"kind": "PodMonitor", "asKubelet": true}, "kubeletVolumeStats": "missing"}),
            &NAMES,
        ),
        (
            json!({"monitor": {
                "kind": "ServiceMonitor", "labels": {"release": "prometheus"}, "interval": "1m", "scrapeTimeout": "10s",
                "relabelings": [{"targetLabel": "cluster", "replacement": "a"}],
                "metricRelabelings": [{"action": "labeldrop", "regex": "pvc_.*"}],
            }}),
            &LABELS,
        ),
    ]
}
