use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use crate::support::exporter::Exporter;
use crate::support::http;
use crate::support::namespace::{Needs, in_namespace};
use crate::support::subject::wait_until;
use crate::support::tool::is_there;

/// How long nothing may happen; `benches/idle.py` looks for a minute.
const IDLE: Duration = Duration::from_secs(5);
/// The system calls that a connection's end still causes come closer together than this.
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn idle_program_makes_no_system_call() {
    in_namespace(Needs::Mounts, |node| {
        // It must be able to trace, too.
        if !is_there("strace", &["-f", "-o", "/dev/null", "true"]) {
            return;
        }
        node.tmpfs_volume("pv", "size=1m");
        let path = node.path().join("trace");
        let trace = || fs::read_to_string(&path).unwrap();
        let exporter = Exporter::start_traced(&path, &["--rootfs=/"]);
        assert_eq!(exporter.scrape().volume("pv")["pv_disk_usage_up"], 1.0);
        // One connection that asks nothing, and one that stays after its response, until they end.
        drop(http::connect(exporter.address));
        let mut kept = http::connect(exporter.address);
        kept.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert!(kept.read(&mut [0; 64]).unwrap() > 0);
        drop(kept);
        let mut before = String::new();
        wait_until("it is quiet", || {
            std::thread::sleep(QUIET);
            let last = std::mem::replace(&mut before, trace());
            last == before
        });
        std::thread::sleep(IDLE);
        let after = trace();
        assert_eq!(&after[before.len()..], "", "in {IDLE:?}");
        assert_eq!(exporter.scrape().volume("pv")["pv_disk_usage_up"], 1.0);
        assert!(trace().len() > after.len(), "nothing is traced");
    });
}
