use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;

use crate::real_mounts::{assert_as_the_kernel_says, exporter};
use crate::support::exporter::Exporter;
use crate::support::namespace::{
    Needs, Node, PODS, bind, bind_file, in_namespace, propagation, unmount, unmount_all,
};
use crate::support::tool::is_there;

fn run(program: &str, args: &[&str], path: &Path) {
    let output = Command::new(program).args(args).arg(path).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An ext4 file system on a loop device; where it is mounted, and the device.
fn ext4(node: &Node, name: &str, options: &str) -> (PathBuf, PathBuf) {
    let image = node.path().join(format!("{name}.img"));
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-m", "10"], &image);
    let path = node.volume(PODS[0], "local-volume", name);
    run("mount", &["-o", &format!("loop,{options}"), image.to_str().unwrap()], &path);
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let row = table.lines().find(|row| row.split(' ').nth(1) == path.to_str()).unwrap();
    (path, row.split(' ').next().unwrap().into())
}

#[test]
fn ext4_reserve_is_not_available_and_an_error_makes_it_read_only() {
    in_namespace(Needs::Root, |node| {
        let (reserve, _) = ext4(node, "reserve", "rw");
        fs::write(reserve.join("file"), vec![1; 4 << 20]).unwrap();
        let (failed, device) = ext4(node, "failed", "errors=remount-ro");
        let exporter = exporter();
        let volumes = BTreeMap::from([("reserve", reserve.clone()), ("failed", failed.clone())]);
        let scrape = exporter.scrape();
        assert_as_the_kernel_says(&scrape, &volumes);
        let figures = scrape.volume("reserve");
        let sum = figures["pv_disk_usage_bytes_used"] + figures["pv_disk_usage_bytes_available"];
        assert!(sum < figures["pv_disk_usage_bytes_total"], "root's reserve is neither used nor available");

        let error = Path::new("/sys/fs/ext4").join(device.file_name().unwrap()).join("trigger_fs_error");
        fs::write(error, "a test").unwrap();
        assert!(fs::write(failed.join("file"), "x").is_err(), "it must be read-only now");
        // No mount changed, and statvfs of recent kernels does not show it: after any change the table is read again.
        node.tmpfs_volume("another", "size=1m");
        let scrape = exporter.scrape();
        assert_eq!(scrape.volume("failed")["pv_disk_usage_readonly"], 1.0);
        assert_eq!(scrape.volume("reserve")["pv_disk_usage_readonly"], 0.0);
        unmount_all(&[reserve, failed]);
    });
}

#[test]
fn block_device_has_its_size_and_is_never_measured_as_a_file_system() {
    in_namespace(Needs::Root, |node| {
        let root = container(node);
        let (mounted, device) = ext4(node, "fs", "rw");
        let devices = node.kubelet().join("plugins/kubernetes.io/csi/volumeDevices");
        let [raw, plain] = ["raw", "plain"].map(|name| devices.join(format!("{name}/dev/{}", PODS[1])));
        bind_file(&device, &raw);
        fs::write(node.path().join("no-device"), "").unwrap();
        bind_file(&node.path().join("no-device"), &plain);
        fs::create_dir(devices.join("raw/data")).unwrap();
        let note = r#"{"driverName":"d","volumeHandle":"h","specVolID":"raw"}"#;
        fs::write(devices.join("raw/data/vol_data.json"), note).unwrap();
        let kubelet = format!("--kubelet-root={}", node.kubelet().display());
        let scrape = Exporter::start(&["--rootfs=/", &kubelet]).scrape();
        let size_alone =
            BTreeMap::from([("pv_disk_usage_bytes_total", f64::from(32 << 20)), ("pv_disk_usage_up", 1.0)]);
        assert_eq!(scrape.volume("raw"), size_alone);
        let labels = [("pv_name", "raw"), ("volume_mode", "Block"), ("volume_type", "d")];
        assert_eq!(scrape.all("pv_disk_usage_volume_info", &labels).len(), 1);
        assert_eq!(scrape.volume("plain"), BTreeMap::from([("pv_disk_usage_up", 0.0)]));
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["not_mounted"]);

        let elsewhere = node.path().join("volumes/by-regex");
        bind_file(&device, &elsewhere);
        let regex = "--volume-regex=/volumes/(?P<name>by-regex)$";
        assert_eq!(Exporter::start(&["--rootfs=/", regex]).scrape().volume("by-regex"), size_alone);
        // The device is not in the rootfs of the overlay: the container's own /sys has its size.
        let scrape = Exporter::start_contained(&root, &["--rootfs=/rootfs"]).scrape();
        assert_eq!(scrape.volume("raw"), size_alone);
        unmount_all(&[raw, plain, elsewhere, mounted]);
    });
}

#[test]
fn device_without_a_name_in_its_path_is_named_by_the_pods_link() {
    in_namespace(Needs::Root, |node| {
        let [(path_one, one), (path_two, two)] = ["one", "two"].map(|name| ext4(node, name, "rw"));
        let kubelet = node.kubelet();
        let links = kubelet.join(format!("pods/{}/volumeDevices/kubernetes.io~iscsi", PODS[1]));
        fs::create_dir_all(&links).unwrap();
        // By way of another link, as in /dev/disk/by-path.
        let by_path = node.path().join("by-path");
        symlink(&two, &by_path).unwrap();
        symlink(&by_path, links.join("pv-two")).unwrap();
        let luns = kubelet.join("plugins/kubernetes.io/iscsi/volumeDevices/iface-default");
        let places = [("lun-0", &one), ("lun-1", &two)].map(|(lun, device)| {
            let place = luns.join(lun).join(PODS[1]);
            bind_file(device, &place);
            place
        });
        let exporter = Exporter::start(&["--rootfs=/", &format!("--kubelet-root={}", kubelet.display())]);
        // Each name with its device: the root of the row is the path of the device within /dev.
        let assert_named = |expected: &[(&str, &Path)]| {
            let scrape = exporter.scrape();
            for (pv_name, device) in expected {
                let root = format!("/{}", device.file_name().unwrap().display());
                let labels = [("fstype", "devtmpfs"), ("pv_name", pv_name), ("root", &root)];
                assert_eq!(scrape.all("pv_disk_usage_mount_info", &labels).len(), 1, "{pv_name}");
            }
            let all = scrape.all("pv_disk_usage_mount_info", &[("fstype", "devtmpfs")]);
            assert_eq!(all.len(), expected.len());
        };
        assert_named(&[("pv-two", &two)]);
        // A link that comes later than the mount.
        symlink(&one, links.join("pv-one")).unwrap();
        assert_named(&[("pv-one", &one), ("pv-two", &two)]);
        unmount_all(&places);
        unmount_all(&[path_one, path_two]);
    });
}

/// Its `statvfs` goes on answering with good figures, while every read and write fails.
#[test]
fn shut_down_xfs_is_an_io_error_and_not_its_last_figures() {
    if !is_there("mkfs.xfs", &["-V"]) || !is_there("xfs_io", &["-V"]) {
        return;
    }
    in_namespace(Needs::Root, |node| {
        let image = node.path().join("xfs.img");
        fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
        run("mkfs.xfs", &["-q"], &image);
        let path = node.volume(PODS[0], "local-volume", "xfs");
        run("mount", &["-o", "loop", image.to_str().unwrap()], &path);
        let exporter = exporter();
        assert_eq!(exporter.scrape().volume("xfs")["pv_disk_usage_up"], 1.0);

        run("xfs_io", &["-x", "-c", "shutdown"], &path);
        assert!(statvfs(&path).unwrap().blocks_free() > 0, "the kernel does not tell by statvfs");
        let scrape = exporter.scrape();
        assert_eq!(scrape.volume("xfs"), BTreeMap::from([("pv_disk_usage_up", 0.0)]));
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["io"]);
        assert_eq!(scrape.value("disk_usage_exporter_volumes", &[("state", "failed")]), Some(1.0));
        unmount(&path);
    });
}

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
fn kubelets_directory_and_no_capability_are_enough() {
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
