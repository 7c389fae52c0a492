use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::exporter::Exporter;
use crate::support::kubelet::{Certificate, Kubelet};
use crate::support::namespace::{Needs, Node, PODS, bind, in_namespace};
use crate::support::objects::{bound_volume, nfs};
use crate::support::prometheus::{Prometheus, job};
use crate::support::tool::is_there;

/// Bytes of the volumes.
const SIZE: usize = 4 << 20;

fn rules() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rules"))
}

#[test]
fn the_rules_pass_their_unit_tests() {
    if is_there("promtool", &["--version"]) {
        let test = rules().join("claims.test.yml");
        let output = Command::new("promtool").args(["test", "rules"]).arg(test).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
        );
    }
}

/// A Prometheus with the shipped job, and the rules, which wait for no minute here.
fn watching(node: &Node, exporter: &Exporter) -> Prometheus {
    let text = std::fs::read_to_string(rules().join("claims.rules.yml")).unwrap();
    assert_eq!(text.matches("for: 1m\n").count(), 2);
    let file = node.path().join("rules.yml");
    std::fs::write(&file, text.replace("for: 1m\n", "for: 2s\n")).unwrap();
    let jobs = job("manifests/prometheus-kubelet-names.yaml", exporter.address);
    Prometheus::start(&format!("{jobs}rule_files: ['{}']\n", file.display()))
}

/// Alert, claim and job of all that fires.
fn firing(result: &[Value]) -> Vec<String> {
    let mut found: Vec<_> = result
        .iter()
        .map(|alert| {
            let label = |name: &str| alert["metric"][name].as_str().unwrap_or_default().to_owned();
            format!("{} {}/{}", label("alertname"), label("namespace"), label("persistentvolumeclaim"))
        })
        .collect();
    found.sort();
    found
}

/// The arguments of the overlay for clusters whose kubelets lost figures, as they are on this node.
fn arguments(kubelet: &Kubelet) -> Vec<String> {
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/overlays/kubelet-names/daemonset.yaml");
    let manifest: Value = serde_saphyr::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
    let args = manifest["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    let address = kubelet.endpoint().replace("--kubelet-endpoint=https://", "");
    let here =
        |arg: &str| arg.replace("--rootfs=/rootfs", "--rootfs=/").replace("$(HOST_IP):10250", &address);
    args.iter().map(|arg| here(arg.as_str().unwrap())).collect()
}

/// Fills volumes of claims one after the other, and empties them; each time what should fire does, once, and nothing else.
/// The kubelet, whose certificate is its own, has lost all claims but one, of which its own series tell.
fn assert_fires(pods: &[&str]) {
    if !is_there("prometheus", &["--version"]) {
        return;
    }
    in_namespace(Needs::Mounts, |node| {
        let volumes = [("pv-1", "data"), ("pv-2", "other"), ("pv-3", "exposed")];
        let mut objects = Vec::new();
        for (pv_name, claim) in volumes {
            let path = node.tmpfs_volume(pv_name, &format!("size={SIZE},nr_inodes=100"));
            for pod in &pods[1..] {
                bind(&path, &node.volume(pod, "nfs", pv_name));
            }
            objects.extend(bound_volume(pv_name, nfs(pv_name), claim, PODS[0]));
        }
        let file = node.path().join("objects.json");
        std::fs::write(&file, json!({"kind": "List", "items": objects}).to_string()).unwrap();
        let kubelet = Kubelet::start_with(Certificate::OwnMade);
        kubelet.expose(&[("shop", "exposed")]);
        std::fs::create_dir(node.kubelet().join("pki")).unwrap();
        std::fs::write(node.kubelet().join("pki/kubelet.crt"), kubelet.pki.kubelet_crt()).unwrap();
        let objects = [
            format!("--objects={}", file.display()),
            "--node-name=node-1".into(),
            format!("--kubelet-root={}", node.kubelet().display()),
        ];
        let args = [arguments(&kubelet), objects.into()].concat();
        let exporter = Exporter::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(exporter.scrape().all("pv_disk_usage_mount_info", &[]).len(), 3 * pods.len());
        let prometheus = watching(node, &exporter);
        let firing_now = r#"ALERTS{alertstate="firing"}"#;
        prometheus.wait_for("kubelet_volume_stats_used_bytes{job='kubelet'}");
        assert_eq!(firing(&prometheus.query(firing_now)), [""; 0]);
        let full = node.volume(PODS[0], "nfs", "pv-1").join("file");
        std::fs::write(&full, vec![0; SIZE - SIZE / 100]).unwrap();
        std::fs::write(node.volume(PODS[0], "nfs", "pv-3").join("file"), vec![0; SIZE - SIZE / 100]).unwrap();
        prometheus.wait_until(firing_now, |result| firing(result) == ["ClaimNearlyFull shop/data"]);
        // Another one runs out of inodes meanwhile.
        let directory = node.volume(PODS[0], "nfs", "pv-2");
        let files: Vec<_> = (0..99).map(|number| directory.join(number.to_string())).collect();
        for file in &files {
            std::fs::write(file, "").unwrap();
        }
        let both = ["ClaimNearlyFull shop/data", "ClaimNearlyOutOfInodes shop/other"];
        prometheus.wait_until(firing_now, |result| firing(result) == both);
        std::fs::remove_file(&full).unwrap();
        prometheus.wait_until(firing_now, |result| firing(result) == both[1..]);
        for file in &files {
            std::fs::remove_file(file).unwrap();
        }
        prometheus.wait_until(firing_now, <[Value]>::is_empty);
        // Never twice for one claim, at no moment.
        let most = prometheus.query(&format!("max_over_time(count({firing_now})[5m:1s])"));
        assert_eq!(most[0]["value"][1], "2", "{most:?}");
        assert_eq!(prometheus.query("up{job='disk-usage-exporter'} == 1").len(), 1);
        assert_eq!(prometheus.query("pv_disk_usage_percent_used{pv_name='pv-3'} > 97").len(), 1);
    });
}

#[test]
fn stock_alerts_fire_for_a_volume_that_fills_up_and_cease() {
    assert_fires(&PODS[..1]);
}

#[test]
fn two_pods_of_a_claim_are_no_two_alerts() {
    assert_fires(&PODS[..2]);
}
