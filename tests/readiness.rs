use crate::support::apiserver::{CLAIMS, Fault, PODS, PVS};
use crate::support::cluster::{Cluster, volumes};
use crate::support::fixture::answering;
use crate::support::{PATIENCE, ask_until};

/// New volumes are held back for 10 s each: if readiness waited for them, a busy node would never be ready.
#[test]
fn volumes_that_came_after_the_first_collection_do_not_delay_readiness() {
    let mut cluster = Cluster::of(&["pv-0"]);
    for resource in [PVS, CLAIMS, PODS] {
        cluster.server.fault(resource, Fault::Hang, usize::MAX);
    }
    let exporter = cluster.start(&[]);
    let mut number = 0;
    let mount_another = || {
        number += 1;
        cluster.table.mount(&format!("pv-{number}"), answering());
        let was_ready = exporter.get("/readyz").status == 200;
        (was_ready, exporter.scrape())
    };
    let (_, scrape) = ask_until(PATIENCE, "it is ready", mount_another, |(is_ready, _)| *is_ready);
    assert!(scrape.label("pv_disk_usage_up", "pv_name").contains(&"pv-0"), "the first volume is waited for");
    assert!(volumes(&scrape, "pending") > 0.0, "and not the last one");
}
