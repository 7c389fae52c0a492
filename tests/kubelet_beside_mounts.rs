use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::kubelet::{ERRORS, Fault, Kubelet, SUMMARY, claims, recorded_summary};
use crate::support::namespace::{Needs, in_namespace};

#[test]
fn a_kubelet_that_hangs_does_not_delay_what_mounts_tell() {
    in_namespace(Needs::Mounts, |node| {
        let kubelet = Kubelet::start();
        node.tmpfs_volume("pv-1", "size=1m");
        let endpoint = kubelet.endpoint();
        let args = ["--rootfs=/", "--sources=mounts,kubelet", &endpoint];
        // A request that hangs fails after 10 s: a scrape that waited for it would tell.
        let scrape_fast = |exporter: &Exporter| {
            let scrape = exporter.scrape();
            assert_eq!(scrape.value(ERRORS, &[]), Some(0.0), "the kubelet was waited for");
            assert_eq!(scrape.label("pv_disk_usage_bytes_total", "pv_name"), ["pv-1"]);
            scrape
        };
        let with = |more: &[&str]| Exporter::start(&[&args[..], &["--stat-timeout=1h"], more].concat());
        // An answer that can be used serves until there is another.
        let exporter = with(&["--scrape-interval=2s"]);
        exporter.scrape_until("the kubelet's answer", |scrape| claims(scrape).len() == 3);
        kubelet.fault(SUMMARY, Fault::Stall(String::new()), usize::MAX);
        let asked = kubelet.count(SUMMARY);
        while kubelet.count(SUMMARY) == asked {
            assert_eq!(claims(&scrape_fast(&exporter)).len(), 3);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(claims(&scrape_fast(&exporter)).len(), 3);
        // Where there is none, the first collection waits for it, and no other: three of them would outlast the request.
        let exporter = Exporter::start(&[&args[..], &["--stat-timeout=4s"]].concat());
        exporter.wait_until_ready();
        for _ in 0..3 {
            assert_eq!(claims(&scrape_fast(&exporter)), [""; 0]);
        }
        // Its figures are there again when it answers.
        kubelet.clear_faults();
        exporter.scrape_until("the kubelet's answer", |scrape| claims(scrape).len() == 3);
    });
}

#[test]
fn figures_of_the_kubelet_may_be_as_old_as_the_flag_says() {
    let kubelet = Kubelet::start();
    let measured = Timestamp::now() - Duration::from_mins(20);
    kubelet.set_summary(&recorded_summary(&[("old", measured, json!(7))]));
    for (flag, shown, stale) in [("10m", 3, 1.0), ("1h", 4, 0.0)] {
        let output = run(&["metrics", &kubelet.endpoint(), &format!("--kubelet-max-age={flag}")]);
        let scrape = Exposition::parse(&String::from_utf8(output.stdout).unwrap());
        let found = (claims(&scrape).len(), scrape.value("disk_usage_exporter_stale_kubelet_volumes", &[]));
        assert_eq!(found, (shown, Some(stale)), "{flag}");
    }
}
