use std::sync::Arc;

use tokio::sync::Notify;

use crate::support::apiserver::Fault;
use crate::support::cluster::{Cluster, volumes};
use crate::support::fixture::answering;

/// New volumes are held back for 10 s each: if readiness waited for them, a busy node would never be ready.
#[test]
fn volumes_that_came_after_the_first_collection_do_not_delay_readiness() {
    let mut cluster = Cluster::of(&["pv-0"]);
    let answer = Arc::new(Notify::new());
    cluster.server.fault("persistentvolumes pv-0", Fault::Wait(Arc::clone(&answer)), 1);
    cluster.server.fault("persistentvolumes pv-1", Fault::Hang, usize::MAX);
    let exporter = cluster.start(&[]);
    exporter.scrape();
    cluster.table.mount("pv-1", answering());
    exporter.scrape_until("two volumes", |scrape| volumes(scrape, "pending") == 2.0);
    assert_eq!(exporter.get("/readyz").status, 503, "the first volume is waited for");
    answer.notify_one();
    exporter.wait_until_ready();
    let scrape = exporter.scrape();
    assert_eq!(scrape.label("pv_disk_usage_up", "pv_name"), ["pv-0"]);
    assert_eq!(volumes(&scrape, "pending"), 1.0, "and not the last one");
}
