use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::real_mounts::{assert_as_the_kernel_says, exporter};
use crate::support::exporter::Exporter;
use crate::support::exposition::Labels;
use crate::support::namespace::{Needs, Node, PODS, bind, in_namespace, unmount};

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
fn ext4_with_a_reserve_and_one_that_failed() {
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
        // No mount changed, and recent kernels let statvfs say nothing of it: any change has the table read again.
        node.tmpfs_volume("another", "size=1m");
        let scrape = exporter.scrape();
        assert_eq!(scrape.volume("failed")["pv_disk_usage_readonly"], 1.0);
        assert_eq!(scrape.volume("reserve")["pv_disk_usage_readonly"], 0.0);
        unmount(&reserve);
        unmount(&failed);
    });
}

#[test]
fn block_devices_have_their_size() {
    in_namespace(Needs::Root, |node| {
        let (mounted, device) = ext4(node, "fs", "rw");
        let devices = node.kubelet().join("plugins/kubernetes.io/csi/volumeDevices");
        let place = devices.join(format!("raw/dev/{}", PODS[1]));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, "").unwrap();
        bind(&device, &place);
        let plain = devices.join(format!("plain/dev/{}", PODS[1]));
        fs::create_dir_all(plain.parent().unwrap()).unwrap();
        fs::write(&plain, "").unwrap();
        fs::write(node.path().join("no-device"), "").unwrap();
        bind(&node.path().join("no-device"), &plain);
        let data = devices.join("raw/data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("vol_data.json"), r#"{"driverName":"d","volumeHandle":"h","specVolID":"raw"}"#)
            .unwrap();
        let kubelet = format!("--kubelet-root={}", node.kubelet().display());
        let scrape = Exporter::start(&["--rootfs=/", &kubelet]).scrape();
        assert_eq!(
            scrape.volume("raw"),
            BTreeMap::from([("pv_disk_usage_bytes_total", f64::from(32 << 20)), ("pv_disk_usage_up", 1.0)])
        );
        let info = scrape.all("pv_disk_usage_volume_info", &[("pv_name", "raw")])[0].0;
        assert!(info.contains(&("volume_mode".into(), "Block".into())), "{info:?}");
        assert!(info.contains(&("volume_type".into(), "d".into())), "{info:?}");
        assert_eq!(scrape.volume("plain"), BTreeMap::from([("pv_disk_usage_up", 0.0)]));
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["not_mounted"]);
        for path in [place, plain, mounted] {
            unmount(&path);
        }
    });
}

/// Binds a device to a file that is made for it.
fn bind_device(device: &Path, place: &Path) {
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, "").unwrap();
    bind(device, place);
}

#[test]
fn a_device_without_a_name_in_its_path_is_named_by_the_pods_link() {
    in_namespace(Needs::Root, |node| {
        let devices = ["one", "two"].map(|name| ext4(node, name, "rw"));
        let kubelet = node.kubelet();
        let links = kubelet.join(format!("pods/{}/volumeDevices/kubernetes.io~iscsi", PODS[1]));
        fs::create_dir_all(&links).unwrap();
        // By way of another link, as in /dev/disk/by-path.
        let by_path = node.path().join("by-path");
        std::os::unix::fs::symlink(&devices[1].1, &by_path).unwrap();
        std::os::unix::fs::symlink(&by_path, links.join("pv-two")).unwrap();
        let places = devices.each_ref().map(|(path, device)| {
            let lun = path.file_name().unwrap().display();
            let global =
                format!("plugins/kubernetes.io/iscsi/volumeDevices/iface-default/lun-{lun}/{}", PODS[1]);
            let place = kubelet.join(global);
            bind_device(device, &place);
            place
        });
        let kubelet = format!("--kubelet-root={}", kubelet.display());
        let exporter = Exporter::start(&["--rootfs=/", &kubelet]);
        // Each name with its device: the row's root is the device's path within /dev.
        let blocks = || {
            let scrape = exporter.scrape();
            let rows = scrape.all("pv_disk_usage_mount_info", &[("fstype", "devtmpfs")]);
            let label = |labels: &Labels, name| labels.iter().find(|(key, _)| key == name).unwrap().1.clone();
            let named = rows.iter().map(|(labels, _)| (label(labels, "pv_name"), label(labels, "root")));
            named.collect::<Vec<_>>()
        };
        let row = |pv_name: &str, at: usize| {
            let device = devices[at].1.file_name().unwrap().display();
            (pv_name.to_owned(), format!("/{device}"))
        };
        assert_eq!(blocks(), [row("pv-two", 1)]);
        std::os::unix::fs::symlink(&devices[0].1, links.join("pv-one")).unwrap();
        assert_eq!(blocks(), [row("pv-one", 0), row("pv-two", 1)], "the link came later than the mount");
        places.iter().chain([&devices[0].0, &devices[1].0]).for_each(|path| unmount(path));
    });
}

#[test]
fn a_device_is_never_taken_for_a_file_system() {
    in_namespace(Needs::Root, |node| {
        let (mounted, device) = ext4(node, "fs", "rw");
        let place = node.path().join("volumes/raw");
        bind_device(&device, &place);
        let scrape = Exporter::start(&["--rootfs=/", "--volume-regex=/volumes/(?P<name>raw)$"]).scrape();
        assert_eq!(
            scrape.volume("raw"),
            BTreeMap::from([("pv_disk_usage_bytes_total", f64::from(32 << 20)), ("pv_disk_usage_up", 1.0)])
        );
        unmount(&place);
        unmount(&mounted);
    });
}
