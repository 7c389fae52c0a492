use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::document::yaml;
use crate::support::manifest::{Manifest, list};
use crate::support::pod_security::unmet;

const BASE: &str = "manifests";
const HARDENED: &str = "manifests/overlays/hardened";
const KUBELET_ONLY: &str = "manifests/overlays/kubelet-only";
const NAMES: &str = "manifests/overlays/kubelet-names";
const COMPAT: &str = "manifests/overlays/kubelet-only-compat";

/// `None` where there is no `kubectl`. What it makes of most of them is checked with the chart, which makes the same.
fn kustomized<const N: usize>(directories: [&str; N]) -> Option<[Manifest; N]> {
    let manifests: Option<Vec<_>> = directories.into_iter().map(Manifest::kustomized).collect();
    manifests?.try_into().ok()
}

#[test]
fn overlays_have_their_objects_ports_arguments_and_privileges() {
    let privileged = [
        "Privileged Containers",
        "HostPath Volumes",
        "Volume Types",
        "Privilege Escalation",
        "Running as Non-root",
        "Running as Non-root user",
        "Seccomp",
        "Capabilities: drop",
    ];
    let hardened =
        ["HostPath Volumes", "SELinux", "Volume Types", "Running as Non-root", "Running as Non-root user"];
    let kubelet = "--kubelet-endpoint=https://$(HOST_IP):10250";
    let missing = ["--rootfs=/rootfs", "--sources=mounts", "--kubelet-volume-stats=missing", kubelet];
    let compat = [
        "--sources=kubelet",
        kubelet,
        "--kubelet-volume-stats-labels=pod",
        "--metrics-port=8080",
        "--scrape-interval=30s",
        "--insecure-skip-tls-verify=true",
    ];
    let port = ("pv-metrics", 9274);
    for (directory, port, args, level, unmet_controls) in [
        (BASE, port, &missing[..1], "privileged", &privileged[..]),
        ("manifests/base", port, &missing[..1], "privileged", &privileged),
        (HARDENED, port, &missing[..1], "privileged", &hardened),
        (NAMES, port, &missing, "privileged", &privileged),
        (KUBELET_ONLY, port, &compat[..2], "restricted", &[]),
        (COMPAT, ("metrics", 8080), &compat, "restricted", &[]),
    ] {
        let Some([manifest]) = kustomized([directory]) else { return };
        let name = "disk-usage-exporter";
        let namespace = if directory == COMPAT { "kubelet-volume-stats" } else { name };
        let service = ["Service", namespace, "kubelet-volume-stats-exporter"];
        let names = [
            ["Namespace", "", namespace],
            ["ServiceAccount", namespace, name],
            ["PriorityClass", "", name],
            ["DaemonSet", namespace, name],
            ["ClusterRole", "", name],
            ["ClusterRoleBinding", "", name],
        ];
        let names = names.into_iter().chain((directory == COMPAT).then_some(service));
        assert_eq!(manifest.names(), names.map(|name| name.map(str::to_owned)).collect(), "{directory}");
        assert_eq!((manifest.port(), &manifest.args()[..]), (port, args), "{directory}");
        let labels = &manifest.the("Namespace")["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], level, "{directory}");
        assert_eq!(unmet(manifest.template()), unmet_controls.iter().copied().collect(), "{directory}");
        let pod = &manifest.template()["spec"];
        assert_eq!([&pod["priorityClassName"], &pod["serviceAccountName"]], [name; 2], "{directory}");
    }
}

#[test]
fn pods_without_mounts_have_no_rights_on_their_node() {
    for directory in [KUBELET_ONLY, COMPAT] {
        let Some([manifest]) = kustomized([directory]) else { return };
        let context = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 1000,
            "runAsNonRoot": true,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        assert_eq!(manifest.container()["securityContext"], context, "{directory}");
        let sources = json!([
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}],
            }},
        ]);
        let volumes = json!([{"name": "token", "projected": {"sources": sources}}]);
        assert_eq!(manifest.template()["spec"]["volumes"], volumes, "{directory}");
        let path = "/var/run/secrets/kubernetes.io/serviceaccount";
        let mounts = json!([{"name": "token", "mountPath": path, "readOnly": true}]);
        assert_eq!(manifest.container()["volumeMounts"], mounts, "{directory}");
    }
}

/// Only these parts of the pod differ from the base's, and no other objects but those of these kinds.
#[test]
fn overlays_change_nothing_else() {
    let Some([base, hardened, names]) = kustomized([BASE, HARDENED, NAMES]) else { return };
    let mounts =
        ["/spec/volumes/0", "/spec/containers/0/volumeMounts/0", "/spec/containers/0/securityContext"];
    for (overlay, parts, kinds) in [
        (&hardened, &mounts[..], &["DaemonSet"][..]),
        (&names, &["/spec/containers/0/args"], &["DaemonSet", "ClusterRole"]),
    ] {
        let mut template = overlay.template().clone();
        for part in parts {
            template.pointer_mut(part).unwrap().clone_from(base.template().pointer(part).unwrap());
        }
        assert_eq!(template, *base.template(), "{parts:?}");
        let others = |manifest: &Manifest| -> Vec<Value> {
            let others = manifest.0.iter().filter(|object| kinds.iter().all(|kind| object["kind"] != *kind));
            others.cloned().collect()
        };
        assert_eq!(others(overlay), others(&base), "{kinds:?}");
    }
    for (manifest, name, mount_path, path) in [
        (&base, "rootfs", "/rootfs", "/"),
        (&hardened, "kubelet", "/rootfs/var/lib/kubelet", "/var/lib/kubelet"),
    ] {
        let mount = json!({
            "name": name, "mountPath": mount_path, "mountPropagation": "HostToContainer", "readOnly": true,
        });
        assert_eq!(manifest.container()["volumeMounts"][0], mount);
        let volume = json!({"name": name, "hostPath": {"path": path, "type": "Directory"}});
        assert_eq!(manifest.template()["spec"]["volumes"][0], volume);
    }
}

#[test]
fn pods_go_to_every_real_linux_node() {
    let Some([base]) = kustomized([BASE]) else { return };
    let pod = &base.template()["spec"];
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]), "all taints");
    // `NotIn` includes nodes without the label.
    let term = json!({"matchExpressions": [
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
        {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]},
        {"key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"]},
    ]});
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}});
    assert_eq!(pod["affinity"], json!({"nodeAffinity": required}));
    assert_eq!(pod["nodeSelector"], Value::Null);
}

#[test]
fn service_of_the_go_exporter_lists_the_pods() {
    let Some([manifest]) = kustomized([COMPAT]) else { return };
    let service = manifest.the("Service");
    let annotations = json!({
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8080",
        "prometheus.io/path": "/metrics",
    });
    assert_eq!(service["metadata"]["annotations"], annotations);
    assert_eq!(manifest.template()["metadata"]["annotations"], annotations);
    let port = json!({"name": "metrics", "port": 8080, "targetPort": "metrics", "protocol": "TCP"});
    let labels = &manifest.template()["metadata"]["labels"];
    assert_eq!(service["spec"], json!({"clusterIP": "None", "selector": labels, "ports": [port]}));
    assert_eq!(manifest.the("DaemonSet")["spec"]["selector"]["matchLabels"], *labels);
}

#[test]
fn scrape_jobs_find_the_pods_and_keep_their_labels() {
    let Some([base, compat]) = kustomized([BASE, COMPAT]) else { return };
    let job = |path: &str| {
        let config = yaml(path);
        let [job] = list(&config["scrape_configs"]) else { panic!("{config:#}") };
        assert_eq!(job["honor_labels"], true, "{path}");
        job.clone()
    };
    let label = |name: &str| json!([format!("__meta_kubernetes_pod_{name}")]);
    for path in ["manifests/prometheus-scrape.yaml", "manifests/prometheus-kubelet-names.yaml"] {
        let job = job(path);
        let namespace = &base.the("DaemonSet")["metadata"]["namespace"];
        let discovery = json!([{"role": "pod", "namespaces": {"names": [namespace]}}]);
        assert_eq!(job["kubernetes_sd_configs"], discovery, "{path}");
        let relabelings = json!([
            {"source_labels": label("container_port_name"), "regex": base.port().0, "action": "keep"},
            {"source_labels": label("phase"), "regex": "Failed|Succeeded", "action": "drop"},
            {"source_labels": label("node_name"), "target_label": "node"},
        ]);
        assert_eq!(job["relabel_configs"], relabelings, "{path}");
    }
    let job = job("manifests/overlays/kubelet-only-compat/prometheus-scrape.yaml");
    let service = &compat.the("Service")["metadata"];
    assert_eq!(job["kubernetes_sd_configs"][0]["namespaces"]["names"], json!([service["namespace"]]));
    assert_eq!(job["relabel_configs"][0]["regex"], service["name"]);
}

#[test]
fn each_pod_security_control_finds_what_it_forbids() {
    let Some([good]) = kustomized([KUBELET_ONLY]) else { return };
    let uncapped = json!([{"securityContext": {
        "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "seccompProfile": {"type": "Localhost"},
    }}]);
    for (control, path, value) in [
        ("HostProcess", "/spec/securityContext", json!({"windowsOptions": {"hostProcess": true}})),
        ("Host Namespaces", "/spec/hostIPC", json!(true)),
        ("Host Namespaces", "/spec/hostNetwork", json!(true)),
        ("Host Namespaces", "/spec/hostPID", json!(true)),
        ("Privileged Containers", "C/securityContext/privileged", json!(true)),
        ("Host Ports", "C/ports", json!([{"containerPort": 1, "hostPort": 1}])),
        ("Host Probes / Lifecycle Hooks", "C/startupProbe", json!({"httpGet": {"host": "a"}})),
        ("Host Probes / Lifecycle Hooks", "C/lifecycle", json!({"preStop": {"tcpSocket": {"host": "a"}}})),
        ("AppArmor", "/spec/securityContext", json!({"appArmorProfile": {"type": "Unconfined"}})),
        (
            "AppArmor",
            "/metadata/annotations",
            json!({"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}),
        ),
        ("SELinux", "/spec/securityContext", json!({"seLinuxOptions": {"type": "spc_t"}})),
        ("SELinux", "/spec/securityContext", json!({"seLinuxOptions": {"role": "a"}})),
        ("/proc Mount Type", "C/securityContext/procMount", json!("Unmasked")),
        ("Sysctls", "/spec/securityContext", json!({"sysctls": [{"name": "a", "value": "1"}]})),
        ("Volume Types", "/spec/volumes", json!([{"name": "a", "nfs": {}}])),
        ("Privilege Escalation", "/spec/initContainers", uncapped),
        ("Running as Non-root", "C/securityContext/runAsNonRoot", json!(false)),
        ("Running as Non-root user", "/spec/securityContext", json!({"runAsUser": 0})),
        ("Seccomp", "C/securityContext/seccompProfile", Value::Null),
        ("Seccomp", "/spec/securityContext", json!({"seccompProfile": {"type": "Unconfined"}})),
        ("Capabilities: drop", "C/securityContext/capabilities", json!({})),
        (
            "Capabilities: add",
            "C/securityContext/capabilities/add",
            json!(["NET_BIND_SERVICE", "SYS_PTRACE"]),
        ),
    ] {
        let mut pod = good.template().clone();
        let path = path.replace("C/", "/spec/containers/0/");
        let (parent, field) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        assert_eq!(unmet(&pod), BTreeSet::from([control]), "{path}");
    }
}
