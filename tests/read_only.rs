use nix::mount::{MsFlags, mount};
use std::path::Path;

use crate::real_mounts::exporter;
use crate::support::exposition::Exposition;
use crate::support::namespace::{Needs, PODS, bind, in_namespace, remount_read_only, unmount};

/// As the kubelet mounts a volume for a pod that has it as `readOnly: true`.
fn bind_read_only(from: &Path, to: &Path) {
    bind(from, to);
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, to, None::<&str>, flags, None::<&str>).unwrap();
}

/// Whether all mounts are read-only, and whether the file system is.
fn read_only(scrape: &Exposition) -> [f64; 2] {
    let figures = scrape.volume("data");
    [figures["pv_disk_usage_readonly"], figures["pv_disk_usage_filesystem_readonly"]]
}

#[test]
fn a_pod_that_only_reads_does_not_make_the_file_system_read_only() {
    in_namespace(Needs::Mounts, |node| {
        // As a CSI driver stages it.
        let staged = node.kubelet().join("plugins/kubernetes.io/csi/d/handle/globalmount");
        std::fs::create_dir_all(&staged).unwrap();
        crate::support::namespace::tmpfs(&staged, "size=1m");
        let [writer, reader] = [PODS[0], PODS[1]].map(|pod| node.volume(pod, "nfs", "data"));
        bind(&staged, &writer);
        bind_read_only(&staged, &reader);
        let exporter = exporter();
        assert_eq!(read_only(&exporter.scrape()), [0.0, 0.0]);
        unmount(&writer);
        assert_eq!(read_only(&exporter.scrape()), [1.0, 0.0], "the consumer's choice");
        bind(&staged, &writer);
        remount_read_only(&staged);
        assert_eq!(read_only(&exporter.scrape()), [1.0, 1.0], "the superblock's");
    });
}
