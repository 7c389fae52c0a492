use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::real_mounts::exporter;
use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::namespace::{
    Needs, Node, PODS, bind, in_namespace, propagation, remount_read_only, tmpfs, unmount,
};

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
fn read_only_pod_does_not_make_the_file_system_read_only() {
    in_namespace(Needs::Mounts, |node| {
        // As a CSI driver stages it.
        let staged = node.kubelet().join("plugins/kubernetes.io/csi/d/handle/globalmount");
        std::fs::create_dir_all(&staged).unwrap();
        tmpfs(&staged, "size=1m");
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

/// The mounts below a directory as a process has them whose root this is.
fn table_below(root: &Path) -> String {
    let rows = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = |row: &str| {
        let mut fields: Vec<&str> = row.split(' ').collect();
        fields[4] = fields[4].strip_prefix(root.to_str()?)?;
        (!fields[4].is_empty()).then(|| fields.join(" ") + "\n")
    };
    rows.lines().filter_map(below).collect()
}

/// The kubelet makes a mount read-only in a second step, which does not reach the exporter's copy of it.
#[test]
fn mount_that_is_made_read_only_on_the_host_is_so_for_a_container() {
    in_namespace(Needs::Mounts, |node: &Node| {
        let [host, table] = ["host", "host/proc/1/mountinfo"].map(|path| node.path().join(path));
        std::fs::create_dir(&host).unwrap();
        tmpfs(&host, "size=1m");
        propagation(&host, MsFlags::MS_SHARED);
        let volume = format!("kubelet/pods/{}/volumes/kubernetes.io~nfs/data", PODS[0]);
        let [staged, volume] = ["staged", &volume].map(|path| host.join(path));
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::create_dir_all(table.parent().unwrap()).unwrap();
        std::fs::create_dir(&staged).unwrap();
        let container = |name: &str| {
            let rootfs = node.path().join(name);
            std::fs::create_dir(&rootfs).unwrap();
            bind(&host, &rootfs);
            propagation(&rootfs, MsFlags::MS_SLAVE);
            let exporter =
                Exporter::start(&[&format!("--rootfs={}", rootfs.display()), "--kubelet-root=/kubelet"]);
            // A scrape could share the collection at start, which may have begun before the next mount.
            exporter.wait_until_ready();
            exporter
        };
        let blind = container("blind");
        let write_table = || std::fs::write(&table, table_below(&host)).unwrap();
        write_table();
        let sees_host = container("sees-host");
        tmpfs(&staged, "size=1m");
        bind_read_only(&staged, &volume);
        write_table();
        let access = |scrape: &Exposition| scrape.label("pv_disk_usage_mount_info", "access").concat();

        let scrape = sees_host.scrape();
        assert_eq!((read_only(&scrape), access(&scrape)), ([1.0, 0.0], "ro".into()));
        assert_eq!(scrape.value("disk_usage_exporter_unpropagated_mounts", &[]), Some(0.0));
        let page = sees_host.get("/").text();
        assert!(page.contains(", read-only"), "{page}");

        let scrape = blind.scrape();
        let figures = scrape.volume("data");
        assert_eq!(figures["pv_disk_usage_filesystem_readonly"], 0.0);
        assert_eq!((figures.get("pv_disk_usage_readonly"), access(&scrape)), (None, String::new()));

        // Back, and then as after an error: whatever is known of mounts, that is the file system's.
        propagation(&volume, MsFlags::MS_BIND | MsFlags::MS_REMOUNT);
        write_table();
        assert_eq!(read_only(&sees_host.scrape()), [0.0, 0.0]);
        remount_read_only(&staged);
        write_table();
        for exporter in [&sees_host, &blind] {
            // The kernel does not tell that a superblock changed; statvfs does.
            assert_eq!(read_only(&exporter.scrape()), [1.0, 1.0]);
        }
    });
}
