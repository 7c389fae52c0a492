use std::collections::BTreeMap;
use std::fs;

use crate::support::exporter::Exporter;
use crate::support::fuse::{Behaviour, Fuse, Opcode};
use crate::support::namespace::{Needs, PODS, in_namespace};
use crate::support::subject::healthy;

/// There is no `CephFS` here: FUSE file systems stand in for it, in a table that gives them its type, and count what they
/// are asked.
#[test]
fn the_extended_attribute_is_read_before_statvfs_and_of_no_other_file_system() {
    in_namespace(Needs::Fuse, |node| {
        let fuse = Fuse::start();
        for (name, behaviour) in
            [("ceph", healthy()), ("ceph-silent", Behaviour::Silent), ("other", healthy())]
        {
            fuse.mount(name, &node.volume(PODS[0], "nfs", name), behaviour);
        }
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let table = table.replace(" - fuse ceph", " - ceph ceph");
        let file = node.path().join("mountinfo");
        fs::write(&file, table).unwrap();
        let table = format!("--mount-table={}", file.display());
        let exporter = Exporter::start(&["--rootfs=/", &table, "--stat-timeout=500ms"]);
        let scrape = exporter.scrape();
        assert_eq!(scrape.label("pv_disk_usage_mount_info", "fstype"), ["ceph", "ceph", "fuse"]);
        let asked = fuse.asked();
        // Whoever runs the test may have the program probe twice: at its start, and for the scrape.
        let has_asked = |name: &str| asked[name].keys().copied().collect::<Vec<_>>();
        assert_eq!(has_asked("ceph"), [Opcode::STATFS, Opcode::GETXATTR, Opcode::INIT]);
        assert_eq!(has_asked("other"), [Opcode::STATFS, Opcode::INIT]);
        assert_eq!(
            asked["ceph-silent"],
            BTreeMap::from([(Opcode::GETXATTR, 1), (Opcode::INIT, 1)]),
            "the attribute comes first"
        );
        for name in ["ceph", "other"] {
            assert_eq!(scrape.volume(name)["pv_disk_usage_up"], 1.0, "{name}");
        }
        // Frees the thread that waits for it.
        drop(fuse);
    });
}
