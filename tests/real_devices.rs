use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::real_mounts::{assert_as_the_kernel_says, exporter};
use crate::support::exporter::Exporter;
use crate::support::namespace::{Needs, Node, PODS, bind_file, in_namespace, unmount_all};

/// An ext4 file system on a loop device; where it is mounted, and the device.
pub(crate) fn ext4(node: &Node, name: &str, options: &str) -> (PathBuf, PathBuf) {
    let image = node.path().join(format!("{name}.img"));
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(Command::new("mkfs.ext4").args(["-q", "-m", "10"]).arg(&image));
    let path = node.volume(PODS[0], "local-volume", name);
    run(Command::new("mount").args(["-o", &format!("loop,{options}")]).arg(&image).arg(&path));
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
