use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::fuse::Behaviour;
use crate::support::kubelet::{CAPACITY, ERRORS, Fault, Kubelet, METRICS, SUMMARY, claims, recorded_summary};
use crate::support::namespace::{Needs, PODS, bind, in_namespace};
use crate::support::objects::objects_flag;
use crate::support::subject::{Subject, healthy};

const SUCCESS: &str = "disk_usage_exporter_source_success";

fn capacities(scrape: &Exposition) -> BTreeMap<&str, f64> {
    let claims = claims(scrape).into_iter();
    claims.zip(scrape.all(CAPACITY, &[]).into_iter().map(|(_, value)| value)).collect()
}

#[test]
fn measured_claims_have_the_kubelets_series_names() {
    in_namespace(Needs::Mounts, |node| {
        let path = node.tmpfs_volume("pv-1", "size=8m");
        // A second pod with the same claim, a volume without a claim, and another claim's.
        bind(&path, &node.volume(PODS[1], "nfs", "pv-1"));
        node.tmpfs_volume("pv-2", "size=1m");
        node.tmpfs_volume("pv-3", "size=2m");
        let objects = objects_flag(node, &[("pv-1", "data"), ("pv-3", "other")]);
        let run = |args: &[&str]| Exporter::start(&[&["--rootfs=/", &*objects], args].concat());
        let all = "--kubelet-volume-stats=all";
        let scrape = run(&[all]).scrape();
        assert_eq!(claims(&scrape), ["data", "other"]);
        let expected = BTreeMap::from([("data", f64::from(8 << 20)), ("other", f64::from(2 << 20))]);
        assert_eq!(capacities(&scrape), expected);
        for family in ["scrape_errors_total", "last_scrape_timestamp_seconds", "health_status_abnormal"] {
            let family = format!("kubelet_volume_stats_{family}");
            assert_eq!(scrape.all(&family, &[]), [], "{family} without a kubelet");
        }
        assert_eq!(scrape.label(SUCCESS, "source"), ["mounts", "objects"]);
        // A pod that is not among the objects has no series. Of two pods with one uid the last one counts.
        let scrape = run(&[all, "--kubelet-volume-stats-labels=pod"]).scrape();
        assert_eq!(scrape.label(CAPACITY, "pod"), ["pod-of-other", "pod-of-other"]);
        assert_eq!(claims(&scrape), ["data", "other"]);
    });
}

#[test]
fn hung_mount_is_not_filled_in_from_the_kubelet() {
    in_namespace(Needs::Fuse, |node| {
        let kubelet = Kubelet::start();
        let volumes = [("well", Timestamp::now(), json!(7)), ("hung", Timestamp::now(), json!(8))];
        kubelet.set_summary(&recorded_summary(&volumes));
        let hung = |name: &str| (name.to_owned(), Behaviour::Silent);
        // The recorded pod with local-claim has the uid of the first pod, which mounts all of these.
        let volumes = [("pv-well".to_owned(), healthy()), hung("pv-hung"), hung("pv-unknown")];
        let objects = objects_flag(node, &[("pv-well", "well"), ("pv-hung", "hung")]);
        let (endpoint, sources) = (kubelet.endpoint(), "--sources=mounts,kubelet");
        let args = [sources, &endpoint, &objects, "--stat-timeout=500ms", "--scrape-interval=1ns"];
        let node = Subject::start(node, &volumes, &args);
        let scrape = node.exporter.scrape();
        let measured = scrape.value("pv_disk_usage_bytes_total", &[("pv_name", "pv-well")]).unwrap();
        let mut expected = BTreeMap::from([
            ("csi-block", 12_630_487_040.0),
            ("csi-fs", 270_553_174_016.0),
            ("well", measured),
        ]);
        assert_eq!(capacities(&scrape), expected, "pv-unknown could be the pod's local-claim");
        assert_eq!(scrape.value(SUCCESS, &[("source", "kubelet")]), Some(1.0));
        node.fuse.set("pv-unknown", healthy());
        expected.insert("local-claim", 190_770_176.0);
        node.exporter.scrape_until("pv-unknown answers", |scrape| capacities(scrape) == expected);
        node.fuse.set("pv-hung", healthy());
        expected.insert("hung", measured);
        node.exporter.scrape_until("pv-hung answers", |scrape| capacities(scrape) == expected);
    });
}

#[test]
fn hung_kubelet_does_not_delay_mounts() {
    in_namespace(Needs::Mounts, |node| {
        let kubelet = Kubelet::start();
        node.tmpfs_volume("pv-1", "size=1m");
        let args = ["--rootfs=/", "--sources=mounts,kubelet", &kubelet.endpoint()];
        // A request that hangs fails after 10 s: a scrape that waited for it would show an error.
        let claims_at_once = |exporter: &Exporter| {
            let scrape = exporter.scrape();
            assert_eq!(scrape.value(ERRORS, &[]), Some(0.0), "the kubelet was waited for");
            assert_eq!(scrape.label("pv_disk_usage_bytes_total", "pv_name"), ["pv-1"]);
            claims(&scrape).len()
        };
        // A response that can be used serves until there is another.
        let exporter = Exporter::start(&[&args[..], &["--stat-timeout=1h", "--scrape-interval=2s"]].concat());
        exporter.scrape_until("the kubelet's answer", |scrape| claims(scrape).len() == 3);
        kubelet.fault(SUMMARY, Fault::Stall(String::new()), usize::MAX);
        let requests = kubelet.count(SUMMARY);
        while kubelet.count(SUMMARY) == requests {
            assert_eq!(claims_at_once(&exporter), 3);
            sleep(Duration::from_millis(100));
        }
        assert_eq!(claims_at_once(&exporter), 3);
        // Without one, the first collection waits, and no other: ten of them would outlast the request.
        let exporter = Exporter::start(&[&args[..], &["--stat-timeout=1s"]].concat());
        exporter.wait_until_ready();
        assert_eq!([(); 10].map(|()| claims_at_once(&exporter)), [0; 10]);
    });
}

#[test]
fn only_claims_that_the_kubelet_does_not_expose_have_its_series() {
    in_namespace(Needs::Mounts, |node| {
        let kubelet = Kubelet::start();
        node.tmpfs_volume("pv-1", "size=1m");
        node.tmpfs_volume("pv-2", "size=1m");
        let objects = objects_flag(node, &[("pv-1", "known"), ("pv-2", "lost")]);
        let missing = "--kubelet-volume-stats=missing";
        let args = ["--rootfs=/", "--sources=mounts", missing, &kubelet.endpoint(), &objects];
        let printed = || {
            let output = run(&[&args[..], &["metrics"]].concat());
            Exposition::parse(&String::from_utf8(output.stdout).unwrap())
        };
        kubelet.expose(&[("shop", "known")]);
        let scrape = printed();
        assert_eq!(claims(&scrape), ["lost"]);
        assert_eq!(scrape.label(SUCCESS, "source"), ["mounts", "kubelet_metrics", "objects"]);
        // Its summary is no source here: it is neither requested nor shown.
        assert!(kubelet.requests().iter().all(|(path, _)| path == METRICS));
        assert_eq!(scrape.value(ERRORS, &[]), None);
        kubelet.expose(&[]);
        assert_eq!(claims(&printed()), ["known", "lost"]);
        // A server cannot know at first whether the kubelet is about to expose it.
        let exporter = Exporter::start(&args);
        exporter.scrape_until("the kubelet's answer", |scrape| {
            scrape.value(SUCCESS, &[("source", "kubelet_metrics")]) == Some(1.0)
        });
        let scrape = exporter.scrape();
        assert_eq!(scrape.label("pv_disk_usage_up", "pvc_name"), ["known", "lost"]);
        assert_eq!(scrape.value(CAPACITY, &[]), None);
    });
}

#[test]
fn refusal_of_the_kubelets_metrics_is_logged_and_hides_no_claim() {
    let kubelet = Kubelet::start();
    kubelet.fault(METRICS, Fault::forbidden("metrics"), usize::MAX);
    let args = [&kubelet.endpoint(), "--kubelet-volume-stats=missing"];
    let output = run(&[&args[..], &["metrics"]].concat());
    assert_eq!(claims(&Exposition::parse(&String::from_utf8(output.stdout).unwrap())).len(), 3);
    let exporter = Exporter::start(&args);
    let errors = exporter.scrape().value(ERRORS, &[]);
    let line = exporter.wait_for_log("kubelet_request_failed");
    assert_eq!((line["path"].as_str(), line["level"].as_str()), (Some(METRICS), Some("ERROR")));
    assert!(line["remedy"].as_str().unwrap().contains("`get` on `nodes/metrics`"), "{line}");
    assert_eq!(errors, Some(0.0));
}
