use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::kubelet::{
    Certificate, Fault, Kubelet, METRICS, SUMMARY, empty_summary, recorded_summary, with_volumes,
};
use crate::support::skip;

const FAMILIES: [&str; 6] = [
    "kubelet_volume_stats_capacity_bytes",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_used_bytes",
    "kubelet_volume_stats_inodes",
    "kubelet_volume_stats_inodes_free",
    "kubelet_volume_stats_inodes_used",
];
const RECORDED: &str = include_str!("../fixtures/kubelet/volume-stats.prom");
const ERRORS: &str = "kubelet_volume_stats_scrape_errors_total";
const LAST: &str = "kubelet_volume_stats_last_scrape_timestamp_seconds";
const HEALTH: &str = "kubelet_volume_stats_health_status_abnormal";
const STALE: &str = "disk_usage_exporter_stale_kubelet_volumes";
const SUCCESS: &str = "disk_usage_exporter_source_success";

/// The series of the six families: name and labels, to value.
fn volume_stats(exposition: &Exposition) -> BTreeMap<String, f64> {
    let samples = exposition.samples.iter().filter(|(name, ..)| FAMILIES.contains(&name.as_str()));
    samples.map(|(name, labels, value)| (format!("{name}{labels:?}"), *value)).collect()
}

/// The claims that have a size.
fn claims(exposition: &Exposition) -> Vec<&str> {
    exposition.label(FAMILIES[0], "persistentvolumeclaim")
}

fn start(kubelet: &Kubelet, args: &[&str]) -> Exporter {
    Exporter::start(&[&[kubelet.endpoint().as_str()], args].concat())
}

#[test]
fn kubelet_source_exposes_what_the_kubelet_exposes_and_reads_nothing_else() {
    let kubelet = Kubelet::start();
    let exporter = start(&kubelet, &["--kubernetes=auto"]);
    let text = exporter.get("/metrics").text();
    let scrape = Exposition::parse(&text);
    let expected = volume_stats(&Exposition::parse(RECORDED));
    assert_eq!((expected.len(), volume_stats(&scrape)), (18, expected));
    // HELP and TYPE of all families but the exporter's own ones.
    let heads = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with('#') && !line.contains("scrape"));
        let lines = lines.filter(|line| line.contains("kubelet_volume_stats_"));
        let mut heads: Vec<_> = lines.map(|line| line.replace("[ALPHA] ", "")).collect();
        heads.sort();
        heads
    };
    assert_eq!(heads(&text), heads(RECORDED));
    assert_eq!(scrape.label(SUCCESS, "source"), ["kubelet"]);
    let about_mounts =
        |name: &&String| name.contains("mount") || name.contains("disk_usage_exporter_volumes");
    assert_eq!(scrape.families.iter().filter(about_mounts).collect::<Vec<_>>(), [""; 0]);
    // Volumes without a claim do not count.
    assert_eq!(scrape.value(STALE, &[]), Some(0.0));
    assert!(kubelet.requests().iter().all(|(path, _)| path == SUMMARY));
}

#[test]
fn pod_labels_make_one_series_per_claim_and_pod() {
    let kubelet = Kubelet::start();
    let scrape = start(&kubelet, &["--kubelet-volume-stats-labels=pod"]).scrape();
    let key = |family: &str, claim: &str, pod: &str| {
        let labels = [("namespace", "shop"), ("persistentvolumeclaim", claim), ("pod", pod)];
        format!("{family}{labels:?}")
    };
    let recorded = Exposition::parse(RECORDED);
    let mut expected = BTreeMap::new();
    for family in FAMILIES {
        for (claim, pod) in
            [("csi-block", "web-0"), ("csi-fs", "web-0"), ("csi-fs", "web-1"), ("local-claim", "pg-0")]
        {
            let value = recorded.value(family, &[("persistentvolumeclaim", claim)]).unwrap();
            expected.insert(key(family, claim, pod), value);
        }
    }
    // The second pod's volume was measured at another time.
    expected.insert(key(FAMILIES[1], "csi-fs", "web-1"), 77_244_325_888.0);
    expected.insert(key(FAMILIES[2], "csi-fs", "web-1"), 20_328_423_424.0);
    assert_eq!(volume_stats(&scrape), expected);
}

#[test]
fn scrapes_share_a_request_and_its_answer_for_the_interval() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Late(Duration::from_millis(300)), 1);
    let exporter = start(&kubelet, &["--scrape-interval=1h"]);
    let first = std::thread::scope(|scope| {
        let scrapes: Vec<_> = (0..8).map(|_| scope.spawn(|| exporter.scrape())).collect();
        scrapes.into_iter().map(|scrape| scrape.join().unwrap()).collect::<Vec<_>>()
    });
    kubelet.set_summary(&empty_summary());
    let later = exporter.scrape();
    for scrape in &first {
        assert_eq!(claims(scrape), ["csi-block", "csi-fs", "local-claim"]);
        let stats = |scrape| (volume_stats(scrape), scrape.value(LAST, &[]));
        assert_eq!(stats(scrape), stats(&later));
    }
    assert_eq!(kubelet.count(SUMMARY), 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - later.value(LAST, &[]).unwrap()).abs() < 60.0);
    // A stale answer is replaced, and the new one waited for.
    let exporter = start(&kubelet, &["--scrape-interval=1ns"]);
    exporter.wait_until_ready();
    kubelet.set_summary(&recorded_summary());
    assert_eq!(claims(&exporter.scrape()).len(), 3);
}

#[test]
fn stale_volumes_are_counted_and_not_exposed() {
    let kubelet = Kubelet::start();
    let volume = |seconds: u64| {
        let time = Timestamp::now() - Duration::from_secs(seconds);
        json!({"capacityBytes": 1, "time": time.to_string()})
    };
    let volumes = [("fresh", volume(0)), ("aging", volume(598)), ("old", volume(610))];
    kubelet.set_summary(&with_volumes(empty_summary(), volumes));
    let exporter = start(&kubelet, &["--scrape-interval=1h"]);
    // A volume grows stale while the answer is reused.
    let scrape = exporter.scrape_until("ten minutes", |scrape| scrape.value(STALE, &[]) == Some(2.0));
    assert_eq!((claims(&scrape), kubelet.count(SUMMARY)), (vec!["fresh"], 1));
}

#[test]
fn unknown_stats_are_absent() {
    let kubelet = Kubelet::start();
    let with_zero_inodes = |capacity: u64, used: u64| {
        json!({"capacityBytes": capacity, "availableBytes": 0, "usedBytes": used,
            "inodes": 0, "inodesFree": 0, "inodesUsed": 0})
    };
    let volumes: [(&str, Value); 5] = [
        ("block", with_zero_inodes(64, 0)),
        ("bytes", json!({"capacityBytes": 100, "availableBytes": 40, "usedBytes": 60})),
        ("full", with_zero_inodes(64, 64)),
        ("ill", json!({"capacityBytes": 7, "volumeHealthStats": {"abnormal": true}})),
        ("nothing", json!({"inodes": 0, "inodesFree": 0, "inodesUsed": 0})),
    ];
    kubelet.set_summary(&with_volumes(empty_summary(), volumes));
    let scrape = start(&kubelet, &[]).scrape();
    let stats = ["block", "bytes", "full", "ill", "nothing"].map(|claim| {
        let value = |family| scrape.value(family, &[("persistentvolumeclaim", claim)]);
        let texts = FAMILIES.map(|family| value(family).map_or("-".to_owned(), |value| value.to_string()));
        texts.join(" ")
    });
    assert_eq!(stats, ["64 - - - - -", "100 40 60 - - -", "64 0 64 0 0 0", "7 - - - - -", "- - - - - -"]);
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let ill = vec![label("namespace", "shop"), label("persistentvolumeclaim", "ill")];
    assert_eq!(scrape.all(HEALTH, &[]), [(&ill, 1.0)]);
}

#[test]
fn exporter_is_ready_once_the_kubelet_has_answered() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Raw(String::new()), usize::MAX);
    let exporter = start(&kubelet, &[]);
    kubelet.wait_for(SUMMARY, 1);
    let ready = exporter.get("/ready");
    let reason = "no source of figures has answered yet; the log tells why\n";
    assert_eq!((ready.status, ready.text().as_str()), (503, reason));
    assert_eq!(exporter.get("/health").status, 200);
    // Without any scrape.
    kubelet.clear_faults();
    exporter.wait_until_ready();
    exporter.wait_for_log("kubelet_recovered");
    // Later failures do not change it.
    kubelet.fault(SUMMARY, Fault::Raw(String::new()), usize::MAX);
    exporter.scrape();
    assert_eq!(exporter.get("/ready").status, 200);
}

/// As in a restricted pod, with the arguments of the Go exporter's chart except for the port.
#[test]
fn unprivileged_user_reads_the_kubelet_with_the_go_exporters_arguments() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can start a program as another user");
    }
    let kubelet = Kubelet::start_with(Certificate::OwnMade);
    let token = format!("--token-path={}", kubelet.write("token", "token").display());
    let endpoint = kubelet.endpoint();
    let args =
        [&endpoint, "--scrape-interval=1m30s", &token, "--insecure-skip-tls-verify=true", "--debug=true"];
    let exporter = Exporter::start_restricted(kubelet.directory(), &args);
    assert_eq!(claims(&exporter.scrape()), ["csi-block", "csi-fs", "local-claim"]);
    assert_eq!(kubelet.requests()[0].1.as_deref(), Some("Bearer token"));
    exporter.wait_until_ready();
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
    for line in ["Uid:\t1000\t1000\t1000\t1000\n", "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n"] {
        assert!(status.contains(line), "{status}");
    }
}

#[test]
fn missing_mode_exposes_only_what_the_kubelet_does_not() {
    const MISSING: &str = "--kubelet-volume-stats=missing";
    let kubelet = Kubelet::start();
    kubelet.expose(&[("shop", "csi-fs"), ("bank", "local-claim")]);
    // Until the kubelet answers, every claim could be one that it exposes.
    kubelet.fault(METRICS, Fault::Stall(String::new()), 1);
    let exporter = start(&kubelet, &[MISSING, "--stat-timeout=100ms"]);
    let scrape = exporter.scrape_until("the summary", |scrape| scrape.value(LAST, &[]).is_some());
    assert_eq!(claims(&scrape), [""; 0]);
    // A kubelet that forbids its metrics has answered.
    kubelet.fault(METRICS, Fault::forbidden("metrics"), usize::MAX);
    let exporter = start(&kubelet, &[MISSING, "--scrape-interval=1ns"]);
    let success =
        |scrape: &Exposition| (claims(scrape).len(), scrape.value(SUCCESS, &[("source", "kubelet_metrics")]));
    let forbidden = exporter.scrape();
    assert_eq!(success(&forbidden), (3, Some(0.0)));
    assert_eq!(forbidden.value(ERRORS, &[]), Some(0.0), "the errors of the summary alone");
    let line = exporter.wait_for_log("kubelet_request_failed");
    assert_eq!((line["path"].as_str(), line["level"].as_str()), (Some(METRICS), Some("ERROR")));
    assert!(line["remedy"].as_str().unwrap().contains("`get` on `nodes/metrics`"), "{line}");
    kubelet.clear_faults();
    let scrape = exporter.scrape_until("recovery", |scrape| success(scrape) == (2, Some(1.0)));
    assert_eq!(claims(&scrape), ["csi-block", "local-claim"]);
}
