use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, openat, renameat};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::mkfifo;

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::http;
use crate::support::namespace::{
    Needs, Node, PODS, bind, in_namespace, propagation, remount_read_only, tmpfs, unmount, unmount_all,
};
use crate::support::subject::wait_until;
use crate::support::tool::is_there;

/// What must be exposed of a file system, by the kernel's own answer: the public contract, written once more.
fn expected(path: &Path) -> BTreeMap<&'static str, f64> {
    let figures = statvfs(path).unwrap();
    let bytes = |blocks: u64| blocks as f64 * figures.fragment_size() as f64;
    let total = bytes(figures.blocks());
    if total == 0.0 {
        return BTreeMap::from([("pv_disk_usage_up", 0.0)]);
    }
    let used = total - bytes(figures.blocks_free()).min(total);
    let available = bytes(figures.blocks_available()).min(total);
    let is_read_only = figures.flags().contains(FsFlags::ST_RDONLY);
    let mut expected = BTreeMap::from([
        ("pv_disk_usage_bytes_total", total),
        ("pv_disk_usage_bytes_used", used),
        ("pv_disk_usage_bytes_available", available),
        ("pv_disk_usage_readonly", f64::from(u8::from(is_read_only))),
        // Here no mount is read-only by itself.
        ("pv_disk_usage_filesystem_readonly", f64::from(u8::from(is_read_only))),
        ("pv_disk_usage_up", 1.0),
    ]);
    if used + available > 0.0 {
        expected.insert("pv_disk_usage_percent_used", 100.0 * used / (used + available));
    }
    let inodes = figures.files() as f64;
    let inodes_free = (figures.files_free() as f64).min(inodes);
    if inodes > 0.0 {
        expected.extend([
            ("pv_disk_usage_inodes", inodes),
            ("pv_disk_usage_inodes_used", inodes - inodes_free),
            ("pv_disk_usage_inodes_available", inodes_free),
            ("pv_disk_usage_inodes_percent_used", 100.0 * (inodes - inodes_free) / inodes),
        ]);
    }
    expected
}

/// Exactly these volumes are exposed, each with its figures if it has a size, and all of them are possible.
pub(crate) fn assert_as_the_kernel_says(
    scrape: &Exposition,
    volumes: &BTreeMap<impl AsRef<str> + Ord, PathBuf>,
) {
    let volumes: BTreeMap<&str, _> =
        volumes.iter().map(|(name, path)| (name.as_ref(), expected(path))).collect();
    assert_eq!(names(scrape), volumes.keys().copied().collect::<Vec<_>>());
    for (name, expected) in &volumes {
        assert_eq!(scrape.volume(name), *expected, "{name}");
    }
    for (name, labels, value) in &scrape.samples {
        assert!(value.is_finite() && *value >= 0.0, "{name}{labels:?} {value}");
    }
    let failed = volumes.into_iter().filter(|(_, expected)| expected["pv_disk_usage_up"] == 0.0);
    let failed: Vec<&str> = failed.map(|(name, _)| name).collect();
    assert_eq!(scrape.label("pv_disk_usage_error", "pv_name"), failed);
    assert_eq!(scrape.label("pv_disk_usage_error", "reason"), vec!["no_figures"; failed.len()]);
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

#[test]
fn figures_are_those_of_statvfs() {
    in_namespace(Needs::Mounts, |node| {
        let some = node.tmpfs_volume("some", "size=8m");
        fs::write(some.join("file"), vec![1; 3 << 20]).unwrap();
        let full = node.tmpfs_volume("full", "size=1m");
        assert!(fs::write(full.join("file"), vec![1; 2 << 20]).is_err());
        let no_inodes = node.tmpfs_volume("no-inodes", "size=1m,nr_inodes=8");
        let created = (0..20).filter(|i| fs::write(no_inodes.join(i.to_string()), "").is_ok()).count();
        assert!(created < 20, "the inodes did not run out");
        let read_only = node.tmpfs_volume("read-only", "size=1m");
        remount_read_only(&read_only);
        fs::create_dir(some.join("sub")).unwrap();
        let bound = node.volume(PODS[1], "local-volume", "bound");
        bind(&some.join("sub"), &bound);
        let (removed, source) = (node.volume(PODS[0], "local-volume", "removed"), some.join("removed"));
        fs::create_dir(&source).unwrap();
        bind(&source, &removed);
        fs::remove_dir(source).unwrap();
        let volumes = BTreeMap::from([
            ("some", some),
            ("full", full),
            ("no-inodes", no_inodes),
            ("read-only", read_only),
            ("bound", bound),
            ("removed", removed),
        ]);
        let scrape = exporter().scrape();
        assert_as_the_kernel_says(&scrape, &volumes);
        assert_eq!(scrape.volume("full")["pv_disk_usage_bytes_available"], 0.0);
        assert_eq!(scrape.volume("full")["pv_disk_usage_percent_used"], 100.0);
        assert_eq!(scrape.volume("no-inodes")["pv_disk_usage_inodes_available"], 0.0);
        assert_eq!(scrape.volume("read-only")["pv_disk_usage_readonly"], 1.0);
        let labels = [("pv_name", "bound"), ("root", "/sub"), ("pod_uid", PODS[1])];
        assert_eq!(scrape.all("pv_disk_usage_mount_info", &labels).len(), 1);
    });
}

#[test]
fn next_scrape_sees_what_changed_and_an_unchanged_table_is_not_read() {
    in_namespace(Needs::Mounts, |node| {
        let first = node.tmpfs_volume("first", "size=1m");
        let exporter = exporter();
        let before = reads(&exporter.scrape());
        let assert_shown = |changes, expected: &[(&str, i32)]| {
            let scrape = exporter.scrape();
            let totals = scrape.all("pv_disk_usage_bytes_total", &[]);
            let shown = names(&scrape).into_iter().zip(totals.iter().map(|(_, total)| *total));
            let expected = expected.iter().map(|(name, mib)| (*name, f64::from(mib << 20)));
            assert_eq!(shown.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            assert_eq!(reads(&scrape), before + f64::from(changes));
            assert_eq!(scrape.label("pv_disk_usage_mount_info", "pv_name"), names(&scrape));
            assert_eq!(scrape.all("pv_disk_usage_error", &[]), []);
        };
        assert_shown(0, &[("first", 1)]);
        let second = node.tmpfs_volume("second", "size=1m");
        assert_shown(1, &[("first", 1), ("second", 1)]);
        // A mount over a mount hides it.
        tmpfs(&first, "size=2m");
        assert_shown(2, &[("first", 2), ("second", 1)]);
        // The program holds none of them: all unmount at once.
        unmount(&first);
        assert_shown(3, &[("first", 1), ("second", 1)]);
        unmount(&first);
        assert_shown(4, &[("second", 1)]);
        unmount(&second);
        assert_shown(5, &[]);
    });
}

/// A tenant's volume has subPaths, and a container that sees all of it moves their directories into deep ones.
#[test]
fn paths_of_megabytes_in_the_table_cost_no_other_volume_and_little_memory() {
    in_namespace(Needs::Mounts, |node| {
        let healthy = node.tmpfs_volume("healthy", "size=1m");
        let tenants = node.tmpfs_volume("tenants", "size=64m");
        let moved = tenants.join("moved");
        let mut bound = vec![node.volume(PODS[1], "local-volume", "moved")];
        bound.extend((0..40).map(|number| node.path().join(format!("subpath-{number}"))));
        for (number, path) in bound.iter().enumerate() {
            fs::create_dir_all(path).unwrap();
            let source = moved.join(number.to_string());
            fs::create_dir_all(&source).unwrap();
            bind(&source, path);
        }
        let open_dir =
            |at: &OwnedFd, name: &str| openat(at, name, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        let top = OwnedFd::from(fs::File::open(&tenants).unwrap());
        let name = " ".repeat(250);
        let mut deepest = open_dir(&top, ".");
        for _ in 0..1000 {
            mkdirat(&deepest, &*name, Mode::S_IRWXU).unwrap();
            deepest = open_dir(&deepest, &name);
        }
        renameat(&top, "moved", &deepest, "moved").unwrap();
        assert!(fs::read("/proc/self/mountinfo").unwrap().len() > 40_000_000);

        let scrape = exporter().scrape();
        assert_eq!(names(&scrape), ["healthy", "tenants"]);
        assert_eq!(scrape.volume("healthy")["pv_disk_usage_up"], 1.0);
        assert_eq!(scrape.value("disk_usage_exporter_malformed_mount_lines", &[]), Some(41.0));
        let memory = scrape.value("process_resident_memory_bytes", &[]).unwrap();
        assert!(memory < f64::from(64 << 20), "{memory}");
        drop((top, deepest));
        unmount_all(&bound);
        unmount_all(&[tenants, healthy]);
    });
}

#[test]
fn path_that_is_not_the_tables_mount_has_no_figures() {
    // With the ids of mounts, and without.
    in_namespace(Needs::Mounts, |_| {
        assert_path_is_proven("/proc/self/mountinfo");
        assert_path_is_proven("/proc/self/mounts");
    });
}

fn assert_path_is_proven(original: &str) {
    let node = Node::new();
    let path = node.tmpfs_volume("gone", "size=1m");
    node.tmpfs_volume("there", "size=1m");
    // A copy of the table is that of another process to the program.
    let table = node.path().join("mountinfo");
    fs::write(&table, fs::read(original).unwrap()).unwrap();
    let exporter = Exporter::start(&["--rootfs=/", &format!("--mount-table={}", table.display())]);
    assert_eq!(exporter.scrape().volume("gone")["pv_disk_usage_up"], 1.0);
    unmount(&path);
    for _ in 0..3 {
        let scrape = exporter.scrape();
        assert_eq!(scrape.volume("gone"), BTreeMap::from([("pv_disk_usage_up", 0.0)]));
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["not_mounted"]);
        assert_eq!(scrape.volume("there")["pv_disk_usage_up"], 1.0);
        for state in ["failed", "measured"] {
            let count = scrape.value("disk_usage_exporter_volumes", &[("state", state)]);
            assert_eq!(count, Some(1.0), "{state}");
        }
    }
    tmpfs(&path, "size=1m");
    assert_eq!(exporter.scrape().volume("gone")["pv_disk_usage_up"], 1.0);
    fs::remove_file(&table).unwrap();
    let scrape = exporter.scrape();
    assert_eq!(names(&scrape), [""; 0], "a table that cannot be read shows no volume");
    assert_eq!(scrape.value("disk_usage_exporter_source_success", &[("source", "mounts")]), Some(0.0));
    assert_eq!(scrape.all("disk_usage_exporter_volumes", &[]), []);
    let failed = exporter.logged("volume_failed");
    assert_eq!(failed.len(), 1, "once, not at every scrape");
    assert_eq!((&failed[0]["pv_name"], &failed[0]["reason"]), (&"gone".into(), &"not_mounted".into()));
    assert_eq!(exporter.logged("volume_recovered").len(), 1);
}

#[test]
fn mounts_that_do_not_propagate_into_the_container_are_counted() {
    in_namespace(Needs::Mounts, |node| {
        let host = node.path().join("host");
        fs::create_dir(&host).unwrap();
        tmpfs(&host, "size=1m");
        propagation(&host, MsFlags::MS_SHARED);
        let late = format!("var/lib/kubelet/pods/{}/volumes/kubernetes.io~nfs/late", PODS[0]);
        fs::create_dir_all(host.join(&late)).unwrap();
        // The table of the host's first process, as it is seen below the rootfs.
        fs::create_dir_all(host.join("proc/1")).unwrap();
        let table = format!("1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / /{late} rw - nfs4 nas:/late rw\n");
        fs::write(host.join("proc/1/mountinfo"), table).unwrap();
        let container = |name: &str, flags| {
            let rootfs = node.path().join(name);
            fs::create_dir(&rootfs).unwrap();
            bind(&host, &rootfs);
            propagation(&rootfs, flags);
            Exporter::start(&[&format!("--rootfs={}", rootfs.display())])
        };
        let private = container("private", MsFlags::MS_PRIVATE);
        let slave = container("slave", MsFlags::MS_SLAVE);
        tmpfs(&host.join(late), "size=1m");
        let assert_shown = |exporter: &Exporter, volumes: &[&str], propagation, unpropagated| {
            let scrape = exporter.scrape();
            assert_eq!(names(&scrape), volumes);
            let value = |name| scrape.value(name, &[]);
            assert_eq!(value("disk_usage_exporter_mount_propagation"), Some(propagation));
            assert_eq!(value("disk_usage_exporter_unpropagated_mounts"), Some(unpropagated));
        };
        assert_shown(&private, &[], 0.0, 1.0);
        assert_shown(&slave, &["late"], 1.0, 0.0);
        private.wait_for_log("mounts_not_propagated");
    });
}

#[test]
fn half_written_vol_data_is_read_again_and_what_is_no_file_never() {
    in_namespace(Needs::Mounts, |node| {
        let vol_data = |mode: &str| {
            format!(
                r#"{{"driverName":"d","volumeHandle":"h","specVolID":"pv","volumeLifecycleMode":"{mode}"}}"#
            )
        };
        let volume = |name: &str, content: &str| {
            let directory = node.volume(PODS[0], "csi", name);
            fs::create_dir(directory.join("mount")).unwrap();
            tmpfs(&directory.join("mount"), "size=1m");
            fs::write(directory.join("vol_data.json"), content).unwrap();
            directory.join("vol_data.json")
        };
        let persistent = volume("pv", &vol_data("Persistent")[..40]);
        let inline = volume("inline", "");
        // What is no file is not waited for, and a link of /proc leads nowhere.
        for name in ["magic", "pipe"] {
            fs::remove_file(volume(name, "")).unwrap();
        }
        let volumes = node.kubelet().join(format!("pods/{}/volumes/kubernetes.io~csi", PODS[0]));
        mkfifo(&volumes.join("pipe/vol_data.json"), Mode::S_IRWXU).unwrap();
        fs::write(node.path().join("secret"), vol_data("Persistent")).unwrap();
        symlink("/proc/self/root/mnt/secret", volumes.join("magic/vol_data.json")).unwrap();
        let exporter = exporter();
        let scrape = exporter.scrape();
        assert_eq!(names(&scrape), ["inline", "magic", "pipe", "pv"]);
        assert_eq!(scrape.value("disk_usage_exporter_host_files_busy_seconds", &[]), Some(0.0));
        assert_eq!(scrape.label("pv_disk_usage_up", "volume_type"), [""; 0]);
        fs::write(persistent, vol_data("Persistent")).unwrap();
        fs::write(inline, vol_data("Ephemeral")).unwrap();
        let before = reads(&scrape);
        let scrape = exporter.scrape();
        assert_eq!((names(&scrape), reads(&scrape)), (vec!["magic", "pipe", "pv"], before));
        assert_eq!(scrape.label("pv_disk_usage_up", "volume_instance"), ["h"]);
    });
}

/// How long nothing may happen; `benches/idle.py` looks for a minute.
const IDLE: Duration = Duration::from_secs(2);
/// The system calls that a connection's end still causes come closer together than this.
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn idle_program_makes_no_system_call() {
    in_namespace(Needs::Mounts, |node| {
        // It must be able to trace, too.
        if !is_there("strace", &["-f", "-o", "/dev/null", "true"]) {
            return;
        }
        node.tmpfs_volume("pv", "size=1m");
        let path = node.path().join("trace");
        let trace = || fs::read_to_string(&path).unwrap();
        let exporter = Exporter::start_traced(&path, &["--rootfs=/"]);
        assert_eq!(exporter.scrape().volume("pv")["pv_disk_usage_up"], 1.0);
        // One connection that asks nothing, and one that stays after its response, until they end.
        drop(http::connect(exporter.address));
        let mut kept = http::connect(exporter.address);
        kept.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert!(kept.read(&mut [0; 64]).unwrap() > 0);
        drop(kept);
        let mut before = String::new();
        wait_until("it is quiet", || {
            std::thread::sleep(QUIET);
            let last = std::mem::replace(&mut before, trace());
            last == before
        });
        std::thread::sleep(IDLE);
        let after = trace();
        assert_eq!(&after[before.len()..], "", "in {IDLE:?}");
        assert_eq!(exporter.scrape().volume("pv")["pv_disk_usage_up"], 1.0);
        assert!(trace().len() > after.len(), "nothing is traced");
    });
}
