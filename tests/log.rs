use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::exporter::Exporter;
use crate::support::fixture::Fixture;

/// Volumes that fail: as many as are named in the log at one time.
const FAILING: usize = 20;
/// In so many rounds, of which each logs 20 KB, volumes fail and recover: more than fits into a pipe, 64 KiB.
const ROUNDS: usize = 8;

#[test]
fn log_that_nobody_reads_delays_neither_scrapes_nor_the_end() {
    let names: Vec<String> = (0..FAILING).map(|i| format!("pv-{i}-{}", "x".repeat(200))).collect();
    let volumes: Vec<_> = names.iter().map(|name| (&name[..], json!({"error": "EIO"}))).collect();
    let fixture = Fixture::of(&volumes);
    let table = fixture.path().join("mountinfo");
    let rows = std::fs::read(&table).unwrap();
    let exporter = Exporter::start(&[&fixture.flag()]);
    let fail_and_recover = || {
        for (rows, failing) in [(&[][..], 0), (&rows, FAILING)] {
            std::fs::write(&table, rows).unwrap();
            assert_eq!(exporter.scrape_within(5.0).all("pv_disk_usage_error", &[]).len(), failing);
        }
    };
    // From here on no scrape shares the collection made at start.
    exporter.scrape();
    exporter.read_log(false);
    for _ in 0..ROUNDS {
        fail_and_recover();
        assert_eq!(exporter.get("/readyz").status, 200);
    }
    // When it is read again, it has what happens from then on.
    let lines = || exporter.logged("volume_failed").len();
    exporter.read_log(true);
    let before = lines();
    while lines() < before + 10 * FAILING {
        fail_and_recover();
    }
    exporter.read_log(false);
    (0..ROUNDS).for_each(|_| fail_and_recover());
    exporter.signal(Signal::SIGTERM);
    assert_eq!(exporter.wait().code(), Some(0));
}
