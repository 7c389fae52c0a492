use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::rules::shipped;
use crate::support::document::read;
use crate::support::exporter::Exporter;
use crate::support::kubelet::{Certificate, Kubelet};
use crate::support::manifest::{Manifest, text};
use crate::support::namespace::{Needs, Node, PODS, bind, in_namespace, tmpfs};
use crate::support::objects::objects_flag;
use crate::support::prometheus::{Alertmanager, Prometheus, job};
use crate::support::tool::is_there;

/// Bytes of the file systems.
const SIZE: usize = 4 << 20;
const FIRING: &str = r#"ALERTS{alertstate="firing"}"#;

/// Leaves 1 % of a volume.
fn fill(volume: &Path) {
    fs::write(volume.join("file"), vec![0; SIZE - SIZE / 100]).unwrap();
}

/// A Prometheus with the job of a manifest and these rules, which wait for a second in place of a minute.
fn watching(node: &Node, manifest: &str, exporter: &Exporter, rules: &[String], rest: &str) -> Prometheus {
    let copies = rules.iter().map(|file| {
        let copy = node.path().join(Path::new(file).file_name().unwrap());
        fs::write(&copy, read(file).replace("for: 1m\n", "for: 1s\n")).unwrap();
        format!("'{}'", copy.display())
    });
    let copies = copies.collect::<Vec<_>>().join(", ");
    let jobs = job(manifest, exporter.address);
    Prometheus::start_with_interval("250ms", &format!("{jobs}rule_files: [{copies}]\n{rest}"))
}

/// Names of alerts, each with its claim or else its file system.
fn names(alerts: &[Value]) -> Vec<String> {
    let name = |alert: &Value| {
        let labels = alert.get("labels").unwrap_or(&alert["metric"]);
        let label = |name: &str| text(&labels[name]);
        match label("persistentvolumeclaim") {
            "" => [label("alertname"), label("node"), label("filesystem")].join(" "),
            claim => format!("{} {}/{claim}", label("alertname"), label("namespace")),
        }
    };
    let mut names: Vec<_> = alerts.iter().map(name).collect();
    names.sort();
    names
}

/// Two causes were the most at once: no cause fired twice at any moment.
fn assert_two_fired_at_most(prometheus: &Prometheus) {
    let most = prometheus.query(&format!("max_over_time(count({FIRING})[5m:100ms])"));
    assert_eq!(most[0]["value"][1], "2", "{most:?}");
}

#[test]
fn full_volume_reaches_alertmanager_once() {
    if !is_there("prometheus", &["--version"]) || !is_there(Alertmanager::PROGRAM, &["--version"]) {
        return;
    }
    in_namespace(Needs::Mounts, |node| {
        // One volume in two pods, and two that are directories of one file system.
        let own = node.tmpfs_volume("pv-1", &format!("size={SIZE}"));
        bind(&own, &node.volume(PODS[1], "nfs", "pv-1"));
        let disk = node.path().join("disk");
        fs::create_dir(&disk).unwrap();
        tmpfs(&disk, &format!("size={SIZE}"));
        for pv_name in ["pv-2", "pv-3"] {
            fs::create_dir(disk.join(pv_name)).unwrap();
            bind(&disk.join(pv_name), &node.volume(PODS[0], "nfs", pv_name));
        }
        let objects = objects_flag(node, &[("pv-1", "data"), ("pv-2", "a"), ("pv-3", "b")]);
        let exporter = Exporter::start(&["--rootfs=/", &objects, "--kubelet-volume-stats=all"]);
        let alertmanager = Alertmanager::start();
        let manifest = "manifests/prometheus-scrape.yaml";
        let prometheus = watching(node, manifest, &exporter, &shipped(), &alertmanager.alerting());
        prometheus.wait_for("count(subject:pv_disk_usage_percent_used:max) == 2");
        assert_eq!(prometheus.query(FIRING), [Value::Null; 0]);

        fill(&own);
        let full = alertmanager.wait_until(|alerts| !alerts.is_empty());
        assert_eq!(names(&full), ["VolumeNearlyFull shop/data"]);
        assert_eq!(full[0]["annotations"]["description"], "pv-1 on n has 40kiB left. ");
        fill(&disk.join("pv-2"));
        let scrape = exporter.scrape();
        let shared = scrape.label("pv_disk_usage_filesystem_volumes", "filesystem")[1];
        let both = [format!("VolumeNearlyFull n {shared}"), "VolumeNearlyFull shop/data".into()];
        alertmanager.wait_until(|alerts| names(alerts) == both);
        fs::remove_file(own.join("file")).unwrap();
        alertmanager.wait_until(|alerts| names(alerts) == both[..1]);
        fs::remove_file(disk.join("pv-2/file")).unwrap();
        alertmanager.wait_until(<[Value]>::is_empty);
        assert_two_fired_at_most(&prometheus);
    });
}

/// The kubelet, whose certificate is its own, has lost all claims but one, which its own series show.
#[test]
fn stock_alerts_fire_once_per_claim_and_resolve() {
    if !is_there("prometheus", &["--version"]) {
        return;
    }
    in_namespace(Needs::Mounts, |node| {
        let [full, many_files, exposed] = ["pv-1", "pv-2", "pv-3"]
            .map(|name| node.tmpfs_volume(name, &format!("size={SIZE},nr_inodes=100")));
        // Two pods use this claim.
        bind(&full, &node.volume(PODS[1], "nfs", "pv-1"));
        let objects = objects_flag(node, &[("pv-1", "data"), ("pv-2", "other"), ("pv-3", "exposed")]);
        let kubelet = Kubelet::start_with(Certificate::OwnMade);
        kubelet.expose(&[("shop", "exposed")]);
        fs::create_dir(node.kubelet().join("pki")).unwrap();
        fs::write(node.kubelet().join("pki/kubelet.crt"), kubelet.pki.kubelet_crt()).unwrap();
        // As on clusters whose kubelets lost volumes.
        let overlay = Manifest::kustomized("manifests/overlays/kubelet-names").unwrap();
        let address = kubelet.endpoint().replace("--kubelet-endpoint=https://", "");
        let here = |arg: String| arg.replace("=/rootfs", "=/").replace("$(HOST_IP):10250", &address);
        let args = overlay.settings().into_iter().map(here).chain([
            objects,
            "--node-name=node-1".into(),
            format!("--kubelet-root={}", node.kubelet().display()),
        ]);
        let args: Vec<String> = args.collect();
        let exporter = Exporter::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(exporter.scrape().all("pv_disk_usage_mount_info", &[]).len(), 4);
        // For 2 minutes the kubelet may just not have measured them.
        exporter.scrape_until_within(Duration::from_mins(4), "missing claims", |scrape| {
            scrape.all("kubelet_volume_stats_used_bytes", &[]).len() == 2
        });
        let manifest = "manifests/prometheus-kubelet-names.yaml";
        let prometheus = watching(node, manifest, &exporter, &["tests/rules/claims.rules.yml".into()], "");
        prometheus.wait_for("kubelet_volume_stats_used_bytes{job='kubelet'}");
        assert_eq!(prometheus.query(FIRING), [Value::Null; 0]);

        fill(&full);
        fill(&exposed);
        prometheus.wait_until(FIRING, |alerts| names(alerts) == ["ClaimNearlyFull shop/data"]);
        let files: Vec<_> = (0..99).map(|number| many_files.join(number.to_string())).collect();
        for file in &files {
            fs::write(file, "").unwrap();
        }
        let both = ["ClaimNearlyFull shop/data", "ClaimNearlyOutOfInodes shop/other"];
        prometheus.wait_until(FIRING, |alerts| names(alerts) == both);
        fs::remove_file(full.join("file")).unwrap();
        prometheus.wait_until(FIRING, |alerts| names(alerts) == both[1..]);
        for file in &files {
            fs::remove_file(file).unwrap();
        }
        prometheus.wait_until(FIRING, <[Value]>::is_empty);
        assert_two_fired_at_most(&prometheus);
        assert_eq!(prometheus.query("up{job='disk-usage-exporter'} == 1").len(), 1);
        assert_eq!(prometheus.query("pv_disk_usage_percent_used{pv_name='pv-3'} > 97").len(), 1);
    });
}
