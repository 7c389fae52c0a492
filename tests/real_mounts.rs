use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sys::statvfs::statvfs;

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::namespace::{
    Needs, Node, PODS, bind, in_namespace, propagation, remount_read_only, tmpfs, unmount,
};

/// What must be exposed of a file system, by the kernel's own answer: the public contract, written once more.
fn expected(path: &Path) -> BTreeMap<&'static str, f64> {
    let figures = statvfs(path).unwrap();
    let unit = figures.fragment_size() as f64;
    let (blocks, free, available) =
        (figures.blocks() as f64, figures.blocks_free() as f64, figures.blocks_available() as f64);
    let (inodes, inodes_free) = (figures.files() as f64, figures.files_free() as f64);
    let is_read_only = f64::from(u8::from(figures.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY)));
    let mut expected = BTreeMap::from([
        ("pv_disk_usage_bytes_total", blocks * unit),
        ("pv_disk_usage_bytes_used", (blocks - free) * unit),
        ("pv_disk_usage_bytes_available", available * unit),
        ("pv_disk_usage_readonly", is_read_only),
        // Here no mount is read-only by itself.
        ("pv_disk_usage_filesystem_readonly", is_read_only),
        ("pv_disk_usage_up", 1.0),
    ]);
    if blocks - free + available > 0.0 {
        expected.insert("pv_disk_usage_percent_used", 100.0 * (blocks - free) / (blocks - free + available));
    }
    if inodes > 0.0 {
        expected.insert("pv_disk_usage_inodes", inodes);
        expected.insert("pv_disk_usage_inodes_used", inodes - inodes_free);
        expected.insert("pv_disk_usage_inodes_available", inodes_free);
        expected.insert("pv_disk_usage_inodes_percent_used", 100.0 * (inodes - inodes_free) / inodes);
    }
    expected
}

pub(crate) fn assert_as_the_kernel_says(
    scrape: &Exposition,
    volumes: &BTreeMap<impl AsRef<str> + Ord, PathBuf>,
) {
    let names: Vec<&str> = volumes.keys().map(AsRef::as_ref).collect();
    assert_eq!(scrape.label("pv_disk_usage_up", "pv_name"), names);
    for (name, path) in volumes {
        let name = name.as_ref();
        assert_eq!(scrape.volume(name), expected(path), "{name}");
    }
    assert_eq!(scrape.all("pv_disk_usage_error", &[]), []);
}

pub(crate) fn exporter() -> Exporter {
    Exporter::start(&["--rootfs=/"])
}

fn names(scrape: &Exposition) -> Vec<&str> {
    scrape.label("pv_disk_usage_up", "pv_name")
}

fn reads(scrape: &Exposition) -> f64 {
    scrape.value("disk_usage_exporter_mount_table_reads_total", &[]).unwrap()
}

fn fill(path: &Path) {
    let mut file = fs::File::create(path.join("fill")).unwrap();
    let chunk = vec![1; 1 << 16];
    while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
}

#[test]
fn figures_are_those_of_statvfs() {
    in_namespace(Needs::Mounts, |node| {
        let some = node.tmpfs_volume("some", "size=8m");
        fs::write(some.join("file"), vec![1; 3 << 20]).unwrap();
        let full = node.tmpfs_volume("full", "size=1m");
        fill(&full);
        let no_inodes = node.tmpfs_volume("no-inodes", "size=1m,nr_inodes=8");
        let created = (0..20).filter(|i| fs::write(no_inodes.join(i.to_string()), "").is_ok()).count();
        assert!(created < 20, "the inodes did not run out");
        let read_only = node.tmpfs_volume("read-only", "size=1m");
        remount_read_only(&read_only);
        fs::create_dir(some.join("sub")).unwrap();
        let bound = node.volume(PODS[1], "local-volume", "bound");
        bind(&some.join("sub"), &bound);
        let volumes = BTreeMap::from([
            ("some", some),
            ("full", full),
            ("no-inodes", no_inodes),
            ("read-only", read_only),
            ("bound", bound),
        ]);
        let scrape = exporter().scrape();
        assert_as_the_kernel_says(&scrape, &volumes);
        assert_eq!(scrape.volume("full")["pv_disk_usage_bytes_available"], 0.0);
        assert_eq!(scrape.volume("full")["pv_disk_usage_percent_used"], 100.0);
        assert_eq!(scrape.volume("no-inodes")["pv_disk_usage_inodes_available"], 0.0);
        assert_eq!(scrape.volume("read-only")["pv_disk_usage_readonly"], 1.0);
        let info = scrape.all("pv_disk_usage_mount_info", &[("pv_name", "bound")])[0].0;
        assert!(info.contains(&("root".into(), "/sub".into())), "{info:?}");
        assert!(info.contains(&("pod_uid".into(), PODS[1].into())), "{info:?}");
    });
}

#[test]
fn the_next_scrape_sees_what_changed_and_reads_nothing_else() {
    in_namespace(Needs::Mounts, |node| {
        let first = node.tmpfs_volume("first", "size=1m");
        let exporter = exporter();
        let scrape = exporter.scrape();
        assert_eq!(names(&scrape), ["first"]);
        let before = reads(&scrape);
        assert_eq!(reads(&exporter.scrape()), before, "an unchanged table is not read");
        let second = node.tmpfs_volume("second", "size=1m");
        let scrape = exporter.scrape();
        assert_eq!((names(&scrape), reads(&scrape)), (vec!["first", "second"], before + 1.0));
        // The program holds neither: both unmount at once.
        unmount(&first);
        assert_eq!(names(&exporter.scrape()), ["second"]);
        unmount(&second);
        let scrape = exporter.scrape();
        assert_eq!((names(&scrape), reads(&scrape)), (vec![], before + 3.0));
        assert_eq!(scrape.all("pv_disk_usage_error", &[]), []);
    });
}

#[test]
fn a_mount_over_a_mount_hides_it() {
    in_namespace(Needs::Mounts, |node| {
        let path = node.tmpfs_volume("twice", "size=1m");
        tmpfs(&path, "size=2m");
        let exporter = exporter();
        let total = |scrape: &Exposition| scrape.volume("twice")["pv_disk_usage_bytes_total"];
        let scrape = exporter.scrape();
        assert_eq!(total(&scrape), f64::from(2 << 20));
        assert_eq!(scrape.all("pv_disk_usage_mount_info", &[]).len(), 1);
        unmount(&path);
        assert_eq!(total(&exporter.scrape()), f64::from(1 << 20));
    });
}

/// Copies the table as it is now to a file, which is a foreign table to the program.
fn record_table(node: &Node) -> PathBuf {
    let file = node.path().join("mountinfo");
    fs::write(&file, fs::read("/proc/self/mountinfo").unwrap()).unwrap();
    file
}

#[test]
fn a_path_that_is_not_that_mount_has_no_figures() {
    in_namespace(Needs::Mounts, |node| {
        let path = node.tmpfs_volume("gone", "size=1m");
        node.tmpfs_volume("there", "size=1m");
        let table = record_table(node);
        let exporter = Exporter::start(&["--rootfs=/", &format!("--mount-table={}", table.display())]);
        assert_eq!(exporter.scrape().volume("gone")["pv_disk_usage_up"], 1.0);
        unmount(&path);
        for _ in 0..3 {
            let scrape = exporter.scrape();
            assert_eq!(scrape.volume("gone"), BTreeMap::from([("pv_disk_usage_up", 0.0)]));
            assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["not_mounted"]);
            assert_eq!(scrape.volume("there")["pv_disk_usage_up"], 1.0);
            assert_eq!(scrape.value("disk_usage_exporter_volumes", &[("state", "failed")]), Some(1.0));
            assert_eq!(scrape.value("disk_usage_exporter_volumes", &[("state", "measured")]), Some(1.0));
        }
        tmpfs(&path, "size=1m");
        assert_eq!(exporter.scrape().volume("gone")["pv_disk_usage_up"], 1.0);
        fs::remove_file(&table).unwrap();
        let scrape = exporter.scrape();
        assert_eq!(names(&scrape), [""; 0], "a table that cannot be read shows no volume");
        assert_eq!(scrape.value("disk_usage_exporter_source_success", &[("source", "mounts")]), Some(0.0));
        assert_eq!(scrape.all("disk_usage_exporter_volumes", &[]), []);
        let failing = "volume_failed";
        let again = "volume_recovered";
        assert_eq!(exporter.logged(failing).len(), 1, "once, not at every scrape");
        assert_eq!(exporter.logged(again).len(), 1);
        let line = exporter.wait_for_log(failing);
        assert_eq!((&line["pv_name"], &line["reason"]), (&"gone".into(), &"not_mounted".into()));
    });
}

#[test]
fn a_container_sees_the_host_below_its_rootfs() {
    in_namespace(Needs::Mounts, |node| {
        let rootfs = node.path().join("rootfs");
        let host_path = format!("/var/lib/kubelet/pods/{}/volumes/kubernetes.io~nfs/inside", PODS[0]);
        let inside = rootfs.join(&host_path[1..]);
        fs::create_dir_all(&inside).unwrap();
        tmpfs(&inside, "size=1m");
        node.tmpfs_volume("outside", "size=1m");
        let exporter = Exporter::start(&[&format!("--rootfs={}", rootfs.display())]);
        let scrape = exporter.scrape();
        assert_as_the_kernel_says(&scrape, &BTreeMap::from([("inside", inside)]));
        assert_eq!(scrape.label("pv_disk_usage_mount_info", "mountpoint"), [host_path]);
    });
}

#[test]
fn mounts_that_do_not_propagate_are_told() {
    in_namespace(Needs::Mounts, |node| {
        let host = node.path().join("host");
        fs::create_dir(&host).unwrap();
        tmpfs(&host, "size=1m");
        propagation(&host, MsFlags::MS_SHARED);
        let pods = |name: &str| format!("var/lib/kubelet/pods/{}/volumes/kubernetes.io~nfs/{name}", PODS[0]);
        fs::create_dir_all(host.join(pods("late"))).unwrap();
        let container = |name: &str, flags| {
            let rootfs = node.path().join(name);
            fs::create_dir(&rootfs).unwrap();
            bind(&host, &rootfs);
            propagation(&rootfs, flags);
            // The table of the host's first process, as it would be seen below the rootfs.
            fs::create_dir_all(rootfs.join("proc/1")).unwrap();
            rootfs
        };
        let private = container("private", MsFlags::MS_PRIVATE);
        let slave = container("slave", MsFlags::MS_SLAVE);
        let start = |rootfs: &Path| Exporter::start(&[&format!("--rootfs={}", rootfs.display())]);
        let table = format!(
            "1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / /{} rw - nfs4 nas:/late rw\n",
            pods("late")
        );
        fs::write(host.join("proc/1/mountinfo"), table).unwrap();
        let (blind, seeing) = (start(&private), start(&slave));
        tmpfs(&host.join(pods("late")), "size=1m");
        let told = |exporter: &Exporter| {
            let scrape = exporter.scrape();
            let value = |name: &str| scrape.value(name, &[]);
            (
                names(&scrape).join(","),
                value("disk_usage_exporter_mount_propagation"),
                value("disk_usage_exporter_unpropagated_mounts"),
            )
        };
        assert_eq!(told(&blind), (String::new(), Some(0.0), Some(1.0)));
        assert_eq!(told(&seeing), ("late".into(), Some(1.0), Some(0.0)));
        blind.wait_for_log("mounts_not_propagated");
    });
}

#[test]
fn a_file_can_be_a_mount() {
    // A bind mount of a file is a mount like any other: the proof must hold for it too.
    in_namespace(Needs::Mounts, |node| {
        let path = node.tmpfs_volume("of-a-file", "size=1m");
        fs::write(path.join("file"), "x").unwrap();
        let place = node.kubelet().join(format!("pods/{}/volumes/kubernetes.io~nfs/file", PODS[1]));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, "").unwrap();
        bind(&path.join("file"), &place);
        assert_eq!(fs::metadata(&place).unwrap().dev(), fs::metadata(&path).unwrap().dev());
        let scrape = exporter().scrape();
        assert_eq!(scrape.volume("file")["pv_disk_usage_up"], 1.0);
    });
}

#[test]
fn a_half_written_note_of_the_kubelet_is_read_again() {
    in_namespace(Needs::Mounts, |node| {
        let note = |mode: &str| {
            format!(
                r#"{{"driverName":"d","volumeHandle":"h","specVolID":"pv","volumeLifecycleMode":"{mode}"}}"#
            )
        };
        let volume = |name: &str, content: &str| {
            let directory = node.volume(PODS[0], "csi", name);
            let mount = directory.join("mount");
            fs::create_dir(&mount).unwrap();
            tmpfs(&mount, "size=1m");
            fs::write(directory.join("vol_data.json"), content).unwrap();
            directory.join("vol_data.json")
        };
        let persistent = volume("pv", &note("Persistent")[..40]);
        let inline = volume("inline", "");
        let exporter = exporter();
        let scrape = exporter.scrape();
        assert_eq!(names(&scrape), ["inline", "pv"]);
        assert_eq!(scrape.label("pv_disk_usage_up", "volume_type"), [""; 0]);
        fs::write(persistent, note("Persistent")).unwrap();
        fs::write(inline, note("Ephemeral")).unwrap();
        let before = reads(&scrape);
        let scrape = exporter.scrape();
        assert_eq!((names(&scrape), reads(&scrape)), (vec!["pv"], before));
        assert_eq!(scrape.label("pv_disk_usage_up", "volume_instance"), ["h"]);
    });
}
