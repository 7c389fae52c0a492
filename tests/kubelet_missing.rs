use std::time::{Duration, Instant};

use crate::support::collector::{KubeletCollector, claims};
use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::kubelet::{self, CAPACITY, ERRORS, Fault, Kubelet, METRICS};
use crate::support::namespace::{Needs, in_namespace};
use crate::support::objects::objects_flag;

const MISSING: &str = "--kubelet-volume-stats=missing";

/// What is printed once knows no claim that is new.
fn collector(kubelet: &Kubelet, args: &[&str]) -> KubeletCollector {
    KubeletCollector::start(&[&[kubelet.endpoint().as_str(), MISSING], args].concat())
}

#[test]
fn what_the_kubelet_does_not_expose_of_the_mounts_is_missing() {
    in_namespace(Needs::Mounts, |node| {
        let kubelet = Kubelet::start();
        node.tmpfs_volume("pv-1", "size=1m");
        node.tmpfs_volume("pv-2", "size=1m");
        let objects = objects_flag(node, &[("pv-1", "known"), ("pv-2", "lost")]);
        let endpoint = kubelet.endpoint();
        let args = ["--rootfs=/", "--sources=mounts", MISSING, &endpoint, &objects];
        let printed = || {
            let output = run(&[&args[..], &["metrics"]].concat());
            Exposition::parse(&String::from_utf8(output.stdout).unwrap())
        };
        kubelet.expose(&[("shop", "known")]);
        let scrape = printed();
        assert_eq!(kubelet::claims(&scrape), ["lost"]);
        let sources = scrape.label("disk_usage_exporter_source_success", "source");
        assert_eq!(sources, ["mounts", "kubelet_metrics", "objects"]);
        // Its summary is no source here: nothing is asked or told of it.
        assert!(kubelet.requests().iter().all(|(path, _)| path == METRICS));
        assert_eq!(scrape.value(ERRORS, &[]), None);
        kubelet.expose(&[]);
        assert_eq!(kubelet::claims(&printed()), ["known", "lost"]);
        // Whoever serves cannot know at first whether the kubelet is about to expose it.
        let exporter = Exporter::start(&args);
        exporter.scrape_until("the kubelet's answer", |scrape| {
            scrape.value("disk_usage_exporter_source_success", &[("source", "kubelet_metrics")]) == Some(1.0)
        });
        let scrape = exporter.scrape();
        assert_eq!(scrape.label("pv_disk_usage_up", "pvc_name"), ["known", "lost"]);
        assert_eq!(scrape.value(CAPACITY, &[]), None);
    });
}

#[test]
fn only_what_the_kubelet_does_not_expose_is_missing() {
    let kubelet = Kubelet::start();
    kubelet.expose(&[("shop", "csi-fs"), ("bank", "local-claim")]);
    let mut collector = collector(&kubelet, &["--scrape-interval=2s", "--stat-timeout=500ms"]);
    let snapshot = collector.collect();
    let missing = ["csi-block", "local-claim"];
    assert_eq!(claims(&snapshot), missing);
    // If it cannot be asked its last answer holds for three intervals, then everything is exposed.
    kubelet.fault(METRICS, Fault::forbidden("metrics"), usize::MAX);
    let start = Instant::now();
    let fails = |snapshot: &disk_usage_exporter::snapshot::Snapshot| {
        snapshot.sources.iter().any(|source| source.name == "kubelet_metrics" && !source.success)
    };
    assert_eq!(claims(&collector.collect_until("a failure", fails)), missing);
    collector.collect_until("all claims", |snapshot| claims(snapshot).len() == 3);
    assert!(start.elapsed() > Duration::from_secs(4), "{:?}", start.elapsed());
    kubelet.clear_faults();
    collector.collect_until("only what is missing", |snapshot| claims(snapshot) == missing);
}

#[test]
fn a_refusal_of_the_kubelets_metrics_is_logged_and_no_error_of_its_summary() {
    let kubelet = Kubelet::start();
    kubelet.fault(METRICS, Fault::forbidden("metrics"), usize::MAX);
    let exporter = Exporter::start(&[&kubelet.endpoint(), MISSING]);
    let scrape = exporter.scrape();
    let said = exporter.wait_for_log("kubelet_request_failed");
    assert_eq!((said["path"].as_str(), said["level"].as_str()), (Some(METRICS), Some("ERROR")));
    assert!(said["remedy"].as_str().unwrap().contains("`get` on `nodes/metrics`"), "{said}");
    assert_eq!(scrape.value(ERRORS, &[]), Some(0.0));
}

#[test]
fn while_it_is_not_known_what_the_kubelet_exposes_nothing_is() {
    let kubelet = Kubelet::start();
    kubelet.fault(METRICS, Fault::Stall(String::new()), 1);
    let mut hanging = collector(&kubelet, &["--stat-timeout=100ms"]);
    let answered = |snapshot: &disk_usage_exporter::snapshot::Snapshot| snapshot.has_answer();
    assert_eq!(claims(&hanging.collect_until("the summary", answered)), [""; 0]);
    // Forbidden is an answer: there is nothing to wait for.
    let kubelet = Kubelet::start();
    kubelet.fault(METRICS, Fault::forbidden("metrics"), usize::MAX);
    assert_eq!(claims(&collector(&kubelet, &[]).collect()).len(), 3);
}

/// A kubelet that answers, if later than a scrape waits, is no reason to expose what it exposes.
#[test]
fn what_the_kubelet_exposes_is_not_forgotten_between_rare_scrapes() {
    let kubelet = Kubelet::start();
    kubelet.expose(&[("shop", "csi-fs"), ("shop", "local-claim")]);
    let mut collector = collector(&kubelet, &["--scrape-interval=500ms", "--stat-timeout=500ms"]);
    kubelet.fault(METRICS, Fault::Late(Duration::from_secs(1)), usize::MAX);
    collector.collect_until("what is missing", |snapshot| claims(snapshot) == ["csi-block"]);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(claims(&collector.collect()), ["csi-block"]);
    }
}
