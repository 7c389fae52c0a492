use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::real_devices::ext4;
use crate::support::exporter::Exporter;
use crate::support::namespace::{Needs, Node, PODS, bind, in_namespace, propagation, unmount};

/// What a container runtime makes of the overlay: a root that has the kubelet's directory below `/rootfs`, read-only, and
/// gets the host's mounts. The program's libraries, `/proc` and `/sys` are there too.
fn container(node: &Node) -> PathBuf {
    let kubelet = node.kubelet();
    fs::create_dir_all(&kubelet).unwrap();
    fs::set_permissions(&kubelet, Permissions::from_mode(0o750)).unwrap();
    bind(&kubelet, &kubelet);
    propagation(&kubelet, MsFlags::MS_SHARED);

    let root = node.path().join("container");
    let bind_recursively = |from: &Path, to: &Path| {
        fs::create_dir_all(to).unwrap();
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).unwrap();
    };
    for name in ["bin", "lib", "lib64", "usr", "proc", "sys"] {
        let directory = Path::new("/").join(name);
        if directory.exists() {
            bind_recursively(&directory, &root.join(name));
        }
    }
    let place = root.join("rootfs/var/lib/kubelet");
    bind_recursively(&kubelet, &place);
    propagation(&place, MsFlags::MS_SLAVE | MsFlags::MS_REC);
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &place, None::<&str>, read_only, None::<&str>).unwrap();
    root
}

#[test]
fn the_kubelets_directory_and_no_capability_are_enough() {
    in_namespace(Needs::Mounts, |node| {
        let root = container(node);
        node.tmpfs_volume("before", "size=1m");
        let exporter = Exporter::start_contained(&root, &["--rootfs=/rootfs"]);
        // A scrape could share the collection at start, which may have begun before the next mount.
        exporter.wait_until_ready();
        let later = node.tmpfs_volume("later", "size=2m");
        fs::write(later.join("file"), vec![1; 1 << 20]).unwrap();

        assert!(!root.join("rootfs/proc").exists());
        let status = fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
        for field in ["Uid:\t0\t0\t0\t0\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n"] {
            assert!(status.contains(field), "{status}");
        }

        let scrape = exporter.scrape();
        assert_eq!(scrape.label("pv_disk_usage_up", "pv_name"), ["before", "later"]);
        let figures = scrape.volume("later");
        assert_eq!(figures["pv_disk_usage_bytes_total"], f64::from(2 << 20));
        assert_eq!(figures["pv_disk_usage_bytes_used"], f64::from(1 << 20));
        assert_eq!(figures["pv_disk_usage_filesystem_readonly"], 0.0, "the pod's mount is not the volume's");
        assert_eq!(figures.get("pv_disk_usage_readonly"), None, "only the host's table would tell");
        assert_eq!(scrape.all("pv_disk_usage_error", &[]), []);
        assert_eq!(scrape.value("disk_usage_exporter_mount_propagation", &[]), Some(1.0));
        let info = scrape.all("pv_disk_usage_mount_info", &[("pv_name", "later")])[0].0;
        let path = format!("/var/lib/kubelet/pods/{}/volumes/kubernetes.io~nfs/later", PODS[0]);
        assert!(info.contains(&("mountpoint".into(), path)), "{info:?}");

        unmount(&later);
        assert_eq!(exporter.scrape().label("pv_disk_usage_up", "pv_name"), ["before"]);
    });
}

#[test]
fn block_devices_have_their_size_by_the_containers_own_sys() {
    in_namespace(Needs::Root, |node| {
        let root = container(node);
        let (mounted, device) = ext4(node, "fs", "rw");
        let place =
            node.kubelet().join(format!("plugins/kubernetes.io/csi/volumeDevices/raw/dev/{}", PODS[1]));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, "").unwrap();
        bind(&device, &place);
        let scrape = Exporter::start_contained(&root, &["--rootfs=/rootfs"]).scrape();
        assert_eq!(scrape.volume("raw")["pv_disk_usage_bytes_total"], f64::from(32 << 20));
        assert_eq!(scrape.all("pv_disk_usage_error", &[]), []);
        unmount(&place);
        unmount(&mounted);
    });
}
