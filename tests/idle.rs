use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::exporter::Exporter;
use crate::support::http;
use crate::support::namespace::{Needs, in_namespace};
use crate::support::tool::is_there;

/// How long nothing may happen; `benches/idle.py` looks for a minute.
const IDLE: Duration = Duration::from_secs(5);
/// What a connection's end still causes comes closer together than this.
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn while_nobody_asks_it_makes_no_system_call() {
    in_namespace(Needs::Mounts, |node| {
        // It must be able to trace, too.
        if !is_there("strace", &["-f", "-o", "/dev/null", "true"]) {
            return;
        }
        node.tmpfs_volume("pv", "size=1m");
        let trace = node.path().join("trace");
        let exporter = Exporter::start_traced(&trace, &["--rootfs=/"]);
        assert_eq!(exporter.scrape().volume("pv")["pv_disk_usage_up"], 1.0);
        // One connection that asks nothing, and one that stays after its answer, until they end.
        drop(http::connect(exporter.address));
        let mut kept = http::connect(exporter.address);
        let request = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";
        std::io::Write::write_all(&mut kept, request).unwrap();
        assert!(std::io::Read::read(&mut kept, &mut [0; 64]).unwrap() > 0);
        drop(kept);
        let before = quiet(&trace);
        std::thread::sleep(IDLE);
        let after = fs::read_to_string(&trace).unwrap();
        assert_eq!(&after[before..], "", "in {IDLE:?}");
        assert_eq!(exporter.scrape().volume("pv")["pv_disk_usage_up"], 1.0);
        assert!(fs::read_to_string(&trace).unwrap().len() > after.len(), "nothing is traced");
    });
}

/// The length of the trace once it has stopped growing.
fn quiet(trace: &Path) -> usize {
    let start = Instant::now();
    let length = || fs::read(trace).unwrap().len();
    let mut last = length();
    loop {
        std::thread::sleep(QUIET);
        let now = length();
        if now == last {
            return now;
        }
        assert!(start.elapsed() < PATIENCE, "it is never quiet");
        last = now;
    }
}
