use std::time::{Duration, Instant};

use crate::support::apiserver::{CLAIMS, Fault, PODS, PVS};
use crate::support::cluster::Cluster;
use crate::support::fixture::answering;

/// New volumes are held back for 10 s each: if readiness waited for them, a busy node would never be ready.
#[test]
fn volumes_that_came_after_the_first_collection_do_not_delay_readiness() {
    let mut cluster = Cluster::of(&["pv-0"]);
    for resource in [PVS, CLAIMS, PODS] {
        cluster.server.fault(resource, Fault::Hang, usize::MAX);
    }
    let exporter = cluster.start(&[]);
    let start = Instant::now();
    let mut number = 0;
    while exporter.get("/readyz").status != 200 {
        assert!(start.elapsed() < Duration::from_secs(40), "it is not ready");
        number += 1;
        cluster.table.mount(&format!("pv-{number}"), answering());
        exporter.scrape();
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(
        start.elapsed() > Duration::from_secs(8),
        "the first volume is waited for: {:?}",
        start.elapsed()
    );
}
