use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::fixture::Fixture;
use crate::support::http;

/// Volumes that fail: as many as are named in the log at one time.
const FAILING: usize = 20;

/// Volumes begin and cease to fail so often that what is said of them does not fit into a pipe: 64 KiB.
#[test]
fn a_log_that_nobody_reads_costs_nothing_but_itself() {
    let mut fixture = Fixture::new();
    let long = "x".repeat(200);
    (0..FAILING).for_each(|i| fixture.mount_unwritten(&format!("pv-{i}-{long}"), json!({"error": "EIO"})));
    fixture.write();
    let table = fixture.path().join("mountinfo");
    let rows = std::fs::read(&table).unwrap();
    let exporter = Exporter::start(&[&fixture.flag()]);
    let scrape = |failing: usize| {
        std::fs::write(&table, if failing == 0 { &[][..] } else { &rows[..] }).unwrap();
        let headers = [("X-Prometheus-Scrape-Timeout-Seconds", "5")];
        let response = http::get(exporter.address, "/metrics", &headers);
        assert_eq!(response.status, 200, "{}", response.text());
        let errors = Exposition::parse(&response.text()).all("pv_disk_usage_error", &[]).len();
        assert_eq!(errors, failing);
    };
    // From here on no scrape shares the collection made at start.
    exporter.scrape();
    exporter.read_log(false);
    for _ in 0..20 {
        scrape(0);
        scrape(FAILING);
        assert_eq!(exporter.get("/readyz").status, 200);
    }
    // Who reads it again finds what happens from then on.
    let lines = || exporter.logged("volume_failed").len();
    exporter.read_log(true);
    let before = lines();
    while lines() < before + 10 * FAILING {
        scrape(0);
        scrape(FAILING);
    }
    // Nor does it keep the program from ending.
    exporter.read_log(false);
    for _ in 0..20 {
        scrape(0);
        scrape(FAILING);
    }
    exporter.signal(Signal::SIGTERM);
    assert_eq!(exporter.wait().code(), Some(0));
}
