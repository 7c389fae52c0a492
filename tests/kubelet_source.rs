use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::kubelet::{Certificate, Fault, Kubelet, METRICS, SUMMARY, Summary};
use crate::support::skip;

/// The six families of figures.
const FAMILIES: [&str; 6] = [
    "kubelet_volume_stats_capacity_bytes",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_used_bytes",
    "kubelet_volume_stats_inodes",
    "kubelet_volume_stats_inodes_free",
    "kubelet_volume_stats_inodes_used",
];
const ERRORS: &str = "kubelet_volume_stats_scrape_errors_total";
const LAST: &str = "kubelet_volume_stats_last_scrape_timestamp_seconds";

/// Every series of the kubelet's figures: name and labels, sorted, to value.
fn figures(exposition: &Exposition) -> BTreeMap<String, f64> {
    let of_claims = exposition.samples.iter().filter(|(name, ..)| FAMILIES.contains(&name.as_str()));
    let series = of_claims.map(|(name, labels, value)| (format!("{name}{labels:?}"), *value));
    series.collect()
}

/// The claims that have a size.
fn claims(exposition: &Exposition) -> Vec<&str> {
    exposition.label(FAMILIES[0], "persistentvolumeclaim")
}

fn only(kubelet: &Kubelet, args: &[&str]) -> Exporter {
    Exporter::start(&[&[kubelet.endpoint().as_str()], args].concat())
}

#[test]
fn the_figures_are_those_that_the_kubelet_exposes_itself() {
    let kubelet = Kubelet::start();
    let scrape = only(&kubelet, &[]).scrape();
    let recorded = include_str!("../fixtures/kubelet/volume-stats.prom");
    let expected = figures(&Exposition::parse(recorded));
    assert_eq!((expected.len(), figures(&scrape)), (18, expected));
    let exposed = |text: &str| {
        let heads =
            text.lines().filter(|line| line.starts_with('#') && line.contains("kubelet_volume_stats_"));
        let mut heads: Vec<_> = heads.map(|line| line.replace("[ALPHA] ", "")).collect();
        heads.retain(|line| !line.contains("scrape"));
        heads.sort();
        heads
    };
    let text = only(&kubelet, &[]).get("/metrics").text();
    assert_eq!(exposed(&text), exposed(recorded), "HELP and TYPE are the kubelet's");
}

#[test]
fn nothing_else_is_read_and_nothing_else_asked() {
    let kubelet = Kubelet::start();
    let exporter = only(&kubelet, &["--kubernetes=auto"]);
    let scrape = exporter.scrape();
    let sources: Vec<_> = scrape.label("disk_usage_exporter_source_success", "source");
    assert_eq!(sources, ["kubelet"]);
    let about_mounts =
        |name: &&String| name.contains("mount") || name.contains("disk_usage_exporter_volumes");
    assert_eq!(scrape.families.iter().filter(about_mounts).collect::<Vec<_>>(), [""; 0]);
    assert!(kubelet.asked().iter().all(|asked| asked.path == SUMMARY));
}

#[test]
fn with_pods_there_is_one_series_a_claim_and_pod() {
    let kubelet = Kubelet::start();
    let scrape = only(&kubelet, &["--kubelet-volume-stats-labels=pod"]).scrape();
    let expected = [
        ("csi-block", "web-0", 12_630_487_040.0),
        ("csi-fs", "web-0", 270_553_174_016.0),
        ("csi-fs", "web-1", 270_553_174_016.0),
        ("local-claim", "pg-0", 190_770_176.0),
    ];
    for family in FAMILIES {
        let labels = |(labels, _): (&Vec<(String, String)>, f64)| labels.clone();
        let found: Vec<_> = scrape.all(family, &[]).into_iter().map(labels).collect();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected: Vec<_> = expected
            .iter()
            .map(|(claim, pod, _)| {
                vec![pair("namespace", "shop"), pair("persistentvolumeclaim", claim), pair("pod", pod)]
            })
            .collect();
        assert_eq!(found, expected, "{family}");
    }
    for (claim, pod, capacity) in expected {
        let labels = [("persistentvolumeclaim", claim), ("pod", pod)];
        assert_eq!(scrape.value(FAMILIES[0], &labels), Some(capacity));
    }
}

#[test]
fn an_answer_is_used_for_its_interval_and_asked_for_once() {
    let kubelet = Kubelet::start();
    let exporter = only(&kubelet, &["--scrape-interval=1h"]);
    let first = exporter.scrape();
    kubelet.tell(&Summary::empty());
    for _ in 0..5 {
        let later = exporter.scrape();
        assert_eq!((figures(&later), later.value(LAST, &[])), (figures(&first), first.value(LAST, &[])));
    }
    assert_eq!(kubelet.count(SUMMARY), 1);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - first.value(LAST, &[]).unwrap()).abs() < 60.0);
    // One whose interval is over is asked for anew, and waited for.
    let exporter = only(&kubelet, &["--scrape-interval=1ns"]);
    kubelet.tell(&Summary::recorded());
    exporter.scrape_until("the first answer", |scrape| claims(scrape).len() == 3);
    kubelet.tell(&Summary::empty());
    assert_eq!(claims(&exporter.scrape()), [""; 0]);
}

#[test]
fn one_request_is_under_way_at_a_time_and_the_last_answer_serves_meanwhile() {
    let kubelet = Kubelet::start();
    let exporter = only(&kubelet, &["--scrape-interval=2s", "--stat-timeout=100ms"]);
    let first = exporter.scrape_until("the first answer", |scrape| claims(scrape).len() == 3);
    let (errors, start) = (first.value(ERRORS, &[]), Instant::now());
    kubelet.fault(SUMMARY, Fault::Hang, usize::MAX);
    let hanging = exporter.scrape_until("a second request", |_| kubelet.count(SUMMARY) == 2);
    assert_eq!((figures(&hanging), hanging.value(LAST, &[])), (figures(&first), first.value(LAST, &[])));
    // After three intervals it is no answer any more, whatever has become of the request.
    exporter.scrape_until("the end of the answer's time", |scrape| claims(scrape).is_empty());
    assert!(start.elapsed() > Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!((kubelet.count(SUMMARY), kubelet.most_at_once()), (2, 1));
    // A request ends after 10 s.
    let failed =
        exporter.scrape_until("the end of the request", |scrape| scrape.value(ERRORS, &[]) != errors);
    assert_eq!(failed.value(ERRORS, &[]), errors.map(|errors| errors + 1.0));
    assert_eq!(failed.value("disk_usage_exporter_source_success", &[("source", "kubelet")]), Some(0.0));
    let said = exporter.wait_for_log("kubelet_request_failed");
    assert!(said["error"].as_str().unwrap().contains("no answer within 10s"), "{said}");
    kubelet.clear_faults();
    exporter.scrape_until("it answers again", |scrape| claims(scrape).len() == 3);
}

/// Whoever scrapes next may do so long after.
#[test]
fn an_answer_is_as_old_as_when_it_came_and_not_as_when_it_was_looked_at() {
    const LATE: Duration = Duration::from_millis(300);
    let kubelet = Kubelet::start();
    let exporter = only(&kubelet, &["--scrape-interval=1s", "--stat-timeout=50ms"]);
    exporter.wait_until_ready();
    kubelet.fault(SUMMARY, Fault::Late(LATE), usize::MAX);
    let before = kubelet.count(SUMMARY);
    exporter.scrape_until("a late answer is under way", |_| kubelet.count(SUMMARY) > before);
    std::thread::sleep(Duration::from_secs(4));
    let later = exporter.scrape();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - later.value(LAST, &[]).unwrap();
    assert!(age > 3.0, "it came {age} s ago");
    assert_eq!(claims(&later), [""; 0], "after three intervals it is no answer any more");
}

#[test]
fn a_failure_that_was_long_ago_delays_no_other_try() {
    let kubelet = Kubelet::start();
    let exporter = only(&kubelet, &["--scrape-interval=1ns", "--stat-timeout=50ms"]);
    exporter.wait_until_ready();
    kubelet.fault(SUMMARY, Fault::CloseLate(Duration::from_millis(300)), usize::MAX);
    let before = kubelet.count(SUMMARY);
    exporter.scrape_until("one that fails is under way", |_| kubelet.count(SUMMARY) > before);
    std::thread::sleep(Duration::from_secs(2));
    let before = kubelet.count(SUMMARY);
    exporter.scrape();
    kubelet.wait_for(SUMMARY, before + 1);
}

/// A connection that nobody uses costs both sides a descriptor.
#[test]
fn nothing_is_open_between_two_requests() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("--kubelet-endpoint=http://{}", listener.local_addr().unwrap());
    let exporter = Exporter::start(&[&endpoint, "--scrape-interval=1h"]);
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"pods\": []}").unwrap();
    exporter.wait_until_ready();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it is closed");
}

#[test]
fn who_scrapes_at_once_shares_the_request() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Late(Duration::from_millis(300)), 1);
    let exporter = only(&kubelet, &["--scrape-interval=1h"]);
    std::thread::scope(|scope| {
        let scrapes: Vec<_> = (0..8).map(|_| scope.spawn(|| exporter.scrape())).collect();
        for scrape in scrapes {
            assert_eq!(claims(&scrape.join().unwrap()).len(), 3);
        }
    });
    assert_eq!(kubelet.count(SUMMARY), 1);
}

#[test]
fn what_the_kubelet_measured_long_ago_is_counted_and_not_exposed() {
    const STALE: &str = "disk_usage_exporter_stale_kubelet_volumes";
    let kubelet = Kubelet::start();
    let mut summary = Summary::recorded();
    summary.measured(Duration::from_secs(590), |claim| claim == "csi-block");
    summary.measured(Duration::from_secs(610), |claim| claim != "csi-block");
    kubelet.tell(&summary);
    let exporter = only(&kubelet, &["--scrape-interval=1h"]);
    let scrape = exporter.scrape();
    // The pods' own volumes are none of a claim, and do not count.
    assert_eq!((claims(&scrape), scrape.value(STALE, &[])), (vec!["csi-block"], Some(3.0)));
    // It grows older while the answer is used.
    exporter.scrape_until("ten minutes", |scrape| scrape.value(STALE, &[]) == Some(4.0));
    assert_eq!(kubelet.count(SUMMARY), 1);
}

#[test]
fn what_the_kubelet_does_not_know_is_absent() {
    let kubelet = Kubelet::start();
    let known = json!({"capacityBytes": 100, "availableBytes": 40, "usedBytes": 60});
    let zeros = json!({"inodes": 0, "inodesFree": 0, "inodesUsed": 0});
    let with = |bytes: serde_json::Value| {
        let mut all = zeros.clone();
        all.as_object_mut().unwrap().extend(bytes.as_object().unwrap().clone());
        all
    };
    let block = with(json!({"capacityBytes": 64, "availableBytes": 0, "usedBytes": 0}));
    let full = with(json!({"capacityBytes": 64, "availableBytes": 0, "usedBytes": 64}));
    let ill = json!({"capacityBytes": 7, "volumeHealthStats": {"abnormal": true}});
    let summary = Summary::empty()
        .with("block", "a", &block)
        .with("full", "b", &full)
        .with("bytes", "c", &known)
        .with("nothing", "d", &zeros)
        .with("ill", "e", &ill);
    kubelet.tell(&summary);
    let scrape = only(&kubelet, &[]).scrape();
    let of = |claim: &str| {
        let value = |family| scrape.value(family, &[("persistentvolumeclaim", claim)]);
        let texts = FAMILIES.map(|family| value(family).map_or("-".to_owned(), |value| value.to_string()));
        texts.join(" ")
    };
    assert_eq!(claims(&scrape), ["block", "bytes", "full", "ill"]);
    assert_eq!(of("block"), "64 - - - - -");
    assert_eq!(of("full"), "64 0 64 0 0 0");
    // As the kubelet has them where they are not known: readers of these names skip claims without.
    assert_eq!(of("bytes"), "100 40 60 0 0 0");
    assert_eq!(of("ill"), "7 - - - - -");
    let health = scrape.all("kubelet_volume_stats_health_status_abnormal", &[]);
    assert_eq!(health.len(), 1);
    let labels = [("namespace", "shop"), ("persistentvolumeclaim", "ill")];
    assert_eq!(scrape.value("kubelet_volume_stats_health_status_abnormal", &labels), Some(1.0));
}

#[test]
fn it_is_ready_when_the_kubelet_has_answered_and_not_before() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Close, 2);
    let exporter = only(&kubelet, &[]);
    kubelet.wait_for(SUMMARY, 1);
    let ready = exporter.get("/ready");
    let early = "no source of figures has answered yet; the log tells why\n";
    assert_eq!((ready.status, ready.text().as_str()), (503, early));
    assert_eq!(exporter.get("/health").status, 200);
    // Nobody has to scrape for that.
    exporter.wait_until_ready();
    assert!(kubelet.count(SUMMARY) >= 3);
    exporter.wait_for_log("kubelet_recovered");
    // From then on it stays so.
    kubelet.fault(SUMMARY, Fault::Close, usize::MAX);
    exporter.scrape();
    assert_eq!(exporter.get("/ready").status, 200);
}

/// As in a pod that may do nothing, and by the arguments that the Go exporter's chart gives, but for the port.
#[test]
fn nobody_in_particular_may_ask_by_the_go_exporters_arguments() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can start a program as another user");
    }
    let kubelet = Kubelet::start_with(Certificate::OwnMade);
    kubelet.require_tokens(&["token"]);
    let token = format!("--token-path={}", kubelet.write("token", "token").display());
    let endpoint = kubelet.endpoint();
    let args =
        [&endpoint, "--scrape-interval=1m30s", &token, "--insecure-skip-tls-verify=true", "--debug=true"];
    let exporter = Exporter::start_restricted(kubelet.directory(), &args);
    assert_eq!(claims(&exporter.scrape()), ["csi-block", "csi-fs", "local-claim"]);
    exporter.wait_until_ready();
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
    for line in ["Uid:\t1000\t1000\t1000\t1000\n", "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n"] {
        assert!(status.contains(line), "{status}");
    }
}

#[test]
fn printing_waits_for_the_kubelet() {
    let kubelet = Kubelet::start();
    kubelet.fault(SUMMARY, Fault::Late(Duration::from_millis(500)), 1);
    let output = run(&["metrics", "--stat-timeout=10ms", &kubelet.endpoint()]);
    assert!(output.status.success());
    let printed = Exposition::parse(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(claims(&printed), ["csi-block", "csi-fs", "local-claim"]);
    assert_eq!(kubelet.count(SUMMARY), 1);
}

#[test]
fn only_what_the_kubelet_does_not_expose_is_missing() {
    let kubelet = Kubelet::start();
    kubelet.expose(&[("shop", "csi-fs"), ("bank", "local-claim")]);
    let args = ["--kubelet-volume-stats=missing", "--scrape-interval=2s", "--stat-timeout=500ms"];
    let exporter = only(&kubelet, &args);
    let success = |scrape: &Exposition| {
        scrape.value("disk_usage_exporter_source_success", &[("source", "kubelet_metrics")])
    };
    let missing = |scrape: &Exposition| claims(scrape) == ["csi-block", "local-claim"];
    let scrape = exporter.scrape();
    assert!(missing(&scrape), "{:?}", claims(&scrape));
    assert_eq!(success(&scrape), Some(1.0));
    // If it cannot be asked its last answer holds for three intervals, then everything is exposed.
    kubelet.fault(METRICS, Fault::forbidden("metrics"), usize::MAX);
    let start = Instant::now();
    let failing = exporter.scrape_until("a failure", |scrape| success(scrape) == Some(0.0));
    assert!(missing(&failing), "{:?}", claims(&failing));
    exporter.scrape_until("all claims", |scrape| claims(scrape).len() == 3);
    assert!(start.elapsed() > Duration::from_secs(4), "{:?}", start.elapsed());
    let said = exporter.wait_for_log("kubelet_request_failed");
    assert_eq!((said["path"].as_str(), said["level"].as_str()), (Some(METRICS), Some("ERROR")));
    assert!(said["remedy"].as_str().unwrap().contains("`get` on `nodes/metrics`"), "{said}");
    // The summary's errors are not those of this page.
    let scrape = exporter.scrape();
    assert_eq!(scrape.value(ERRORS, &[]), Some(0.0));
    kubelet.clear_faults();
    exporter.scrape_until("only what is missing", missing);
}

#[test]
fn while_it_is_not_known_what_the_kubelet_exposes_nothing_is() {
    let kubelet = Kubelet::start();
    kubelet.fault(METRICS, Fault::Hang, 1);
    let exporter = only(&kubelet, &["--kubelet-volume-stats=missing", "--stat-timeout=100ms"]);
    let scrape = exporter.scrape_until("the summary", |scrape| scrape.value(LAST, &[]).is_some());
    assert_eq!(claims(&scrape), [""; 0]);
    // Forbidden is an answer: there is nothing to wait for.
    let kubelet = Kubelet::start();
    kubelet.fault(METRICS, Fault::forbidden("metrics"), usize::MAX);
    let exporter = only(&kubelet, &["--kubelet-volume-stats=missing"]);
    assert_eq!(claims(&exporter.scrape()).len(), 3);
}

/// A kubelet that answers, if later than a scrape waits, is no reason to expose what it exposes.
#[test]
fn what_the_kubelet_exposes_is_not_forgotten_between_rare_scrapes() {
    let kubelet = Kubelet::start();
    kubelet.expose(&[("shop", "csi-fs"), ("shop", "local-claim")]);
    let args = ["--kubelet-volume-stats=missing", "--scrape-interval=500ms", "--stat-timeout=500ms"];
    let exporter = only(&kubelet, &args);
    kubelet.fault(METRICS, Fault::Late(Duration::from_secs(1)), usize::MAX);
    exporter.scrape_until("what is missing", |scrape| claims(scrape) == ["csi-block"]);
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(claims(&exporter.scrape()), ["csi-block"]);
    }
}
