use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::exporter::run;
use crate::support::manifest::{Manifest, kustomized as rendered, list};
use crate::support::pod_security::unmet;

const BASE: &str = "manifests";
const HARDENED: &str = "manifests/overlays/hardened";
const KUBELET_ONLY: &str = "manifests/overlays/kubelet-only";
const NAMES: &str = "manifests/overlays/kubelet-names";
const COMPAT: &str = "manifests/overlays/kubelet-only-compat";

/// What each is made of, in this namespace.
fn expected(namespace: &str) -> BTreeSet<[&str; 3]> {
    let name = "disk-usage-exporter";
    [
        ["Namespace", "", namespace],
        ["ServiceAccount", namespace, name],
        ["PriorityClass", "", name],
        ["DaemonSet", namespace, name],
        ["ClusterRole", "", name],
        ["ClusterRoleBinding", "", name],
    ]
    .into()
}

#[test]
fn each_directory_gives_its_objects_and_no_others() {
    let Some(base) = rendered(BASE) else { return };
    assert_eq!(base.names(), expected("disk-usage-exporter"));
    assert_eq!(base.0, rendered("manifests/base").unwrap().0);
    let hardened = rendered(HARDENED).unwrap();
    assert_eq!(hardened.names(), base.names());
    let kubelet_only = rendered(KUBELET_ONLY).unwrap();
    assert_eq!(kubelet_only.names(), base.names());
    let names = rendered(NAMES).unwrap();
    assert_eq!(names.names(), base.names());
    let compat = rendered(COMPAT).unwrap();
    let mut objects = expected("kubelet-volume-stats");
    objects.insert(["Service", "kubelet-volume-stats", "kubelet-volume-stats-exporter"]);
    assert_eq!(compat.names(), objects);
    for manifest in [&base, &hardened, &kubelet_only, &names, &compat] {
        let account = &manifest.the("ServiceAccount")["metadata"];
        let subject =
            json!({"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]});
        assert_eq!(manifest.the("ClusterRoleBinding")["subjects"], json!([subject]));
        let pod = &manifest.template()["spec"];
        assert_eq!(pod["serviceAccountName"], account["name"]);
        assert_eq!(pod["priorityClassName"], manifest.the("PriorityClass")["metadata"]["name"]);
    }
}

fn enforced(manifest: &Manifest) -> &Value {
    &manifest.the("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
}

#[test]
fn pods_that_ask_the_kubelet_alone_are_restricted() {
    for directory in [KUBELET_ONLY, COMPAT] {
        let Some(manifest) = rendered(directory) else { return };
        assert_eq!(unmet(manifest.template()), BTreeSet::new(), "{directory}");
        assert_eq!(enforced(&manifest), "restricted", "{directory}");
        let context = &manifest.container()["securityContext"];
        assert_eq!(
            context,
            &json!({
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsGroup": 1000,
                "runAsNonRoot": true,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            }),
            "{directory}"
        );
    }
}

#[test]
fn pods_that_see_the_mounts_are_not_restricted() {
    let Some(base) = rendered(BASE) else { return };
    let expected = [
        "Privileged Containers",
        "HostPath Volumes",
        "Volume Types",
        "Privilege Escalation",
        "Running as Non-root",
        "Running as Non-root user",
        "Seccomp",
        "Capabilities: drop",
    ];
    assert_eq!(unmet(base.template()), expected.into());
    assert_eq!(enforced(&base), "privileged");
}

#[test]
fn hardened_pods_are_root_and_no_more() {
    let Some(hardened) = rendered(HARDENED) else { return };
    let expected =
        ["HostPath Volumes", "SELinux", "Volume Types", "Running as Non-root", "Running as Non-root user"];
    assert_eq!(unmet(hardened.template()), expected.into());
    let path = "/var/lib/kubelet";
    let mounts = list(&hardened.container()["volumeMounts"]);
    assert_eq!(
        mounts[0],
        json!({
            "name": "kubelet",
            "mountPath": format!("/rootfs{path}"),
            "mountPropagation": "HostToContainer",
            "readOnly": true,
        })
    );
    let volume = json!({"name": "kubelet", "hostPath": {"path": path, "type": "Directory"}});
    assert_eq!(list(&hardened.template()["spec"]["volumes"])[0], volume);
    // Nothing else differs.
    let base = rendered(BASE).unwrap();
    let (mut template, plain) = (hardened.template().clone(), base.template());
    for at in ["/spec/volumes/0", "/spec/containers/0/volumeMounts/0", "/spec/containers/0/securityContext"] {
        *template.pointer_mut(at).unwrap() = plain.pointer(at).unwrap().clone();
    }
    assert_eq!(template, *plain);
    assert_eq!(hardened.the("ClusterRole"), base.the("ClusterRole"));
}

#[test]
fn pods_go_to_every_linux_node_that_is_real() {
    let Some(base) = rendered(BASE) else { return };
    let pod = &base.template()["spec"];
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]), "all taints");
    let required = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let terms = list(pod.pointer(required).unwrap());
    assert_eq!(terms.len(), 1, "of several one would do");
    // A node without the label is not in the values, whatever these are.
    let goes = |labels: &Value| {
        list(&terms[0]["matchExpressions"]).iter().all(|expression| {
            let is_in = list(&expression["values"]).contains(&labels[expression["key"].as_str().unwrap()]);
            match expression["operator"].as_str() {
                Some("In") => is_in,
                Some("NotIn") => !is_in,
                other => panic!("{other:?}"),
            }
        })
    };
    let os = "kubernetes.io/os";
    assert!(goes(&json!({os: "linux"})));
    assert!(goes(&json!({os: "linux", "type": "compute", "eks.amazonaws.com/compute-type": "ec2"})));
    assert!(!goes(&json!({os: "windows"})));
    assert!(!goes(&json!({os: "linux", "type": "virtual-kubelet"})));
    assert!(!goes(&json!({os: "linux", "eks.amazonaws.com/compute-type": "fargate"})));
}

#[test]
fn each_control_finds_what_it_forbids() {
    let Some(good) = rendered(KUBELET_ONLY) else { return };
    let container = "/spec/containers/0";
    let cases = [
        ("HostProcess", "/spec", "securityContext", json!({"windowsOptions": {"hostProcess": true}})),
        ("Host Namespaces", "/spec", "hostIPC", json!(true)),
        ("Host Namespaces", "/spec", "hostNetwork", json!(true)),
        ("Host Namespaces", "/spec", "hostPID", json!(true)),
        ("Privileged Containers", "/spec/containers/0/securityContext", "privileged", json!(true)),
        ("Host Ports", container, "ports", json!([{"containerPort": 1, "hostPort": 1}])),
        ("Host Probes / Lifecycle Hooks", container, "startupProbe", json!({"httpGet": {"host": "a"}})),
        ("AppArmor", "/spec", "securityContext", json!({"appArmorProfile": {"type": "Unconfined"}})),
        (
            "AppArmor",
            "/metadata",
            "annotations",
            json!({"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}),
        ),
        ("SELinux", "/spec", "securityContext", json!({"seLinuxOptions": {"type": "spc_t"}})),
        ("SELinux", "/spec", "securityContext", json!({"seLinuxOptions": {"role": "a"}})),
        ("/proc Mount Type", "/spec/containers/0/securityContext", "procMount", json!("Unmasked")),
        ("Sysctls", "/spec", "securityContext", json!({"sysctls": [{"name": "a", "value": "1"}]})),
        ("Volume Types", "/spec", "volumes", json!([{"name": "a", "nfs": {}}])),
        (
            "Privilege Escalation",
            "/spec",
            "initContainers",
            json!([{"securityContext": {
                "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "seccompProfile": {"type": "Localhost"},
            }}]),
        ),
        ("Running as Non-root", "/spec/containers/0/securityContext", "runAsNonRoot", json!(false)),
        ("Running as Non-root user", "/spec", "securityContext", json!({"runAsUser": 0})),
        ("Seccomp", "/spec/containers/0/securityContext", "seccompProfile", Value::Null),
        ("Seccomp", "/spec", "securityContext", json!({"seccompProfile": {"type": "Unconfined"}})),
        ("Capabilities: drop", "/spec/containers/0/securityContext", "capabilities", json!({})),
        (
            "Capabilities: add",
            "/spec/containers/0/securityContext/capabilities",
            "add",
            json!(["NET_BIND_SERVICE", "SYS_PTRACE"]),
        ),
    ];
    for (control, at, field, value) in cases {
        let mut pod = good.template().clone();
        pod.pointer_mut(at).unwrap()[field] = value;
        assert_eq!(unmet(&pod), [control].into(), "{at}/{field}");
    }
}

#[test]
fn nothing_is_mounted_but_the_token_and_the_clusters_authority() {
    for directory in [KUBELET_ONLY, COMPAT] {
        let Some(manifest) = rendered(directory) else { return };
        let sources = json!([
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}],
            }},
        ]);
        let spec = &manifest.template()["spec"];
        assert_eq!(spec["volumes"], json!([{"name": "token", "projected": {"sources": sources}}]));
        let path = "/var/run/secrets/kubernetes.io/serviceaccount";
        let mounts = json!([{"name": "token", "mountPath": path, "readOnly": true}]);
        assert_eq!(manifest.container()["volumeMounts"], mounts);
    }
}

#[test]
fn the_kubelets_figures_are_all_that_may_be_asked_for() {
    for directory in [KUBELET_ONLY, COMPAT] {
        let Some(manifest) = rendered(directory) else { return };
        let rules = json!([{"apiGroups": [""], "resources": ["nodes/stats"], "verbs": ["get"]}]);
        assert_eq!(manifest.the("ClusterRole")["rules"], rules, "{directory}");
    }
}

#[test]
fn who_measures_may_ask_the_kubelet_for_its_metrics_besides() {
    let Some(names) = rendered(NAMES) else { return };
    let base = rendered(BASE).unwrap();
    let metrics = json!({"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]});
    let rules = [list(&base.the("ClusterRole")["rules"]), &[metrics]].concat();
    assert_eq!(list(&names.the("ClusterRole")["rules"]), rules);
    let (mut template, plain) = (names.template().clone(), base.template());
    template["spec"]["containers"][0]["args"] = plain["spec"]["containers"][0]["args"].clone();
    assert_eq!(template, *plain, "nothing else differs");
}

#[test]
fn the_program_accepts_the_overlays_arguments() {
    let Some(base) = rendered(BASE) else { return };
    let [rootfs, of_volumes, of_claims] = base.args()[..] else { panic!("{:?}", base.args()) };
    assert_eq!(rootfs, "--rootfs=/rootfs");
    assert_eq!(
        of_volumes.replace("--pv-labels=*,!helm.sh/chart,", "--pvc-labels=*,!helm.sh/chart,"),
        of_claims
    );
    let kubelet_only = rendered(KUBELET_ONLY).unwrap();
    let asking = ["--sources=kubelet", "--kubelet-endpoint=https://$(HOST_IP):10250"];
    assert_eq!(kubelet_only.args(), asking);
    let names = rendered(NAMES).unwrap();
    let missing = ["--sources=mounts", "--kubelet-volume-stats=missing", asking[1]];
    assert_eq!(names.args(), [&base.args()[..], &missing].concat());
    let compat = rendered(COMPAT).unwrap();
    let as_before = [
        "--kubelet-volume-stats-labels=pod",
        "--metrics-port=8080",
        "--scrape-interval=30s",
        "--insecure-skip-tls-verify=true",
    ];
    assert_eq!(compat.args(), [&asking[..], &as_before].concat());
    for manifest in [&base, &kubelet_only, &names, &compat] {
        let env = [("HOST_IP", "status.hostIP"), ("NODE_NAME", "spec.nodeName")];
        assert_eq!(manifest.env(), env.into());
        // Where the manifest mounts the node, this machine has its own root.
        let here = |arg: &str| arg.replace("$(HOST_IP)", "127.0.0.1").replace("=/rootfs", "=/");
        let args: Vec<String> = manifest.args().into_iter().map(here).chain(["metrics".into()]).collect();
        let output = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn probes_ask_at_ports_that_are_there() {
    for (directory, port) in
        [(BASE, ("pv-metrics", 9274)), (KUBELET_ONLY, ("pv-metrics", 9274)), (COMPAT, ("metrics", 8080))]
    {
        let Some(manifest) = rendered(directory) else { return };
        let (name, number) = port;
        assert_eq!(manifest.ports(), [(name, Some(number))].into(), "{directory}");
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            let expected = json!({"path": path, "port": name});
            assert_eq!(manifest.container()[probe]["httpGet"], expected, "{directory}: {probe}");
        }
    }
}

#[test]
fn the_go_exporters_service_lists_the_pods() {
    let Some(manifest) = rendered(COMPAT) else { return };
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
    assert_eq!(manifest.ports(), [("metrics", Some(8080))].into());
}

fn scrape_job(path: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let config: Value = serde_saphyr::from_str(&text).unwrap();
    let [job] = list(&config["scrape_configs"]) else { panic!("{config:#}") };
    job.clone()
}

#[test]
fn scrape_jobs_find_the_pods_and_keep_their_labels() {
    let Some(base) = rendered(BASE) else { return };
    let namespace = &base.the("DaemonSet")["metadata"]["namespace"];
    let ports = base.ports();
    let label = |of: &str| json!([format!("__meta_kubernetes_pod_{of}")]);
    for path in ["manifests/prometheus-scrape.yaml", "manifests/prometheus-kubelet-names.yaml"] {
        let job = scrape_job(path);
        assert_eq!(job["honor_labels"], true, "{path}");
        let discovery = json!([{"role": "pod", "namespaces": {"names": [namespace]}}]);
        assert_eq!(job["kubernetes_sd_configs"], discovery, "{path}");
        let relabelings = json!([
            {"source_labels": label("container_port_name"), "regex": ports.keys().next(), "action": "keep"},
            {"source_labels": label("phase"), "regex": "Failed|Succeeded", "action": "drop"},
            {"source_labels": label("node_name"), "target_label": "node"},
        ]);
        assert_eq!(job["relabel_configs"], relabelings, "{path}");
    }
    let compat = scrape_job("manifests/overlays/kubelet-only-compat/prometheus-scrape.yaml");
    let service = rendered(COMPAT).unwrap().the("Service")["metadata"].clone();
    assert_eq!(compat["honor_labels"], true);
    assert_eq!(compat["kubernetes_sd_configs"][0]["namespaces"]["names"], json!([service["namespace"]]));
    assert_eq!(compat["relabel_configs"][0]["regex"], service["name"]);
}
