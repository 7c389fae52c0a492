use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use disk_usage_exporter::cluster::MetadataHandle;
use disk_usage_exporter::collect::{Collector, Sources};
use disk_usage_exporter::node::{Kernel, Measure, Node, Recognition, Settings, Target};
use disk_usage_exporter::runtime::Deadline;
use disk_usage_exporter::snapshot::Snapshot;
use disk_usage_exporter::volume::{Measurement, ProbeResult};

use nix::mount::{MntFlags, umount2};

use crate::support::PATIENCE;
use crate::support::namespace::{Needs, in_namespace, tmpfs, unmount};

/// The kernel, and something that happens just before it is asked.
struct Meanwhile<F> {
    kernel: Kernel,
    event: Mutex<Option<F>>,
}

impl<F: FnOnce() + Send> Measure for Meanwhile<F> {
    fn measure(&self, target: &Target) -> ProbeResult {
        if let Some(event) = self.event.lock().unwrap().take() {
            event();
        }
        self.kernel.measure(target)
    }
}

fn settings(mount_table: Option<PathBuf>) -> Settings {
    Settings { rootfs: "/".into(), mount_table, recognition: Recognition::default() }
}

fn collector(mount_table: Option<PathBuf>, measure: impl Measure + 'static) -> Collector {
    let node = Node::open(settings(mount_table), Arc::new(measure)).unwrap();
    Collector::new(Sources {
        mounts: Some((node, MetadataHandle::none())),
        kubelet: None,
        kubelet_directory: "/var/lib/kubelet".into(),
        names: None,
    })
}

/// One collection, with an event between the reading of the table and the measurement.
fn collect(table: Option<PathBuf>, event: impl FnOnce() + Send + 'static) -> Snapshot {
    let kernel = settings(table.clone()).kernel();
    let measure = Meanwhile { kernel, event: Mutex::new(Some(event)) };
    collector(table, measure).collect(&Deadline::after(Duration::from_mins(1)))
}

fn total(snapshot: &Snapshot, pv_name: &str) -> Option<u128> {
    let status = snapshot.volumes.iter().find(|status| status.volume.pv_name == pv_name)?;
    match status.measurement()? {
        Measurement::Filesystem(usage) => Some(usage.total),
        Measurement::Block { size } => Some(size),
    }
}

#[test]
fn a_volume_unmounted_after_the_table_was_read_is_left_out() {
    let name = "real_races::a_volume_unmounted_after_the_table_was_read_is_left_out";
    in_namespace(name, Needs::Mounts, |node| {
        let path = node.tmpfs_volume("gone", "size=1m");
        node.tmpfs_volume("there", "size=2m");
        let snapshot = collect(None, move || unmount(&path));
        let names: Vec<&str> = snapshot.volumes.iter().map(|v| v.volume.pv_name.as_str()).collect();
        assert_eq!(names, ["there"]);
        assert_eq!(total(&snapshot, "there"), Some(2 << 20));
        assert_eq!(snapshot.table.unwrap().reads, 2);
    });
}

#[test]
fn another_mount_in_its_place_is_not_that_volume() {
    let name = "real_races::another_mount_in_its_place_is_not_that_volume";
    in_namespace(name, Needs::Mounts, |node| {
        let path = node.tmpfs_volume("swapped", "size=1m");
        let snapshot = collect(None, move || {
            unmount(&path);
            tmpfs(&path, "size=4m");
        });
        // The kernel gives the same id to the new mount. It is what pods see now: its figures are true.
        assert_eq!(total(&snapshot, "swapped"), Some(4 << 20));
    });
}

#[test]
fn the_disk_below_never_answers_however_fast_a_volume_comes_and_goes() {
    let name = "real_races::the_disk_below_never_answers_however_fast_a_volume_comes_and_goes";
    in_namespace(name, Needs::Mounts, |node| {
        let path = node.tmpfs_volume("restless", "size=1m");
        let mut collector = collector(None, settings(None).kernel());
        let toggle = || {
            // Busy while it is being measured.
            if umount2(&path, MntFlags::empty()).is_ok() {
                tmpfs(&path, "size=1m");
                std::thread::yield_now();
            }
        };
        let totals = while_another_thread(toggle, || {
            total(&collector.collect(&Deadline::after(Duration::from_mins(1))), "restless")
        });
        let wrong: Vec<_> = totals.iter().filter(|total| **total != 1 << 20).collect();
        assert!(
            wrong.is_empty(),
            "{} of {} are of the disk below: {:?}",
            wrong.len(),
            totals.len(),
            wrong[0]
        );
    });
}

/// A kernel that proves nothing, and a volume that is away just while it is measured for the first time.
struct Unproven(Mutex<Option<PathBuf>>);

impl Measure for Unproven {
    fn measure(&self, target: &Target) -> ProbeResult {
        let away = self.0.lock().unwrap().take();
        if let Some(path) = &away {
            unmount(path);
        }
        let figures = nix::sys::statvfs::statvfs(&target.path).unwrap();
        if let Some(path) = &away {
            tmpfs(path, "size=1m");
        }
        let size = u128::from(figures.blocks()) * u128::from(figures.fragment_size());
        Ok(Measurement::Block { size })
    }
}

#[test]
fn what_an_older_kernel_cannot_prove_is_measured_again() {
    let name = "real_races::what_an_older_kernel_cannot_prove_is_measured_again";
    in_namespace(name, Needs::Mounts, |node| {
        let path = node.tmpfs_volume("restless", "size=1m");
        let mut collector = collector(None, Unproven(Mutex::new(Some(path))));
        let snapshot = collector.collect(&Deadline::after(Duration::from_mins(1)));
        assert_eq!(total(&snapshot, "restless"), Some(1 << 20));
        assert_eq!(snapshot.table.unwrap().reads, 2);
    });
}

/// Measures until there are plenty of figures, while another thread does something again and again.
fn while_another_thread(
    act: impl Fn() + Send + Sync,
    mut measure: impl FnMut() -> Option<u128>,
) -> Vec<u128> {
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                act();
            }
        });
        let mut figures = Vec::new();
        while figures.len() < 2_000 && start.elapsed() < PATIENCE / 4 {
            figures.extend(measure());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(figures.len() > 20, "it was measured {} times only", figures.len());
        figures
    })
}

#[test]
fn a_table_of_another_process_is_proven_too() {
    let name = "real_races::a_table_of_another_process_is_proven_too";
    in_namespace(name, Needs::Mounts, |node| {
        // Two foreign tables: a copy, whose ids mean nothing here, and one without ids.
        let copy = node.path().join("copy");
        for table in ["/proc/self/mountinfo", "/proc/self/mounts"] {
            let path = node.tmpfs_volume("gone", "size=1m");
            std::fs::write(&copy, std::fs::read(table).unwrap()).unwrap();
            assert_eq!(total(&collect(Some(copy.clone()), || ()), "gone"), Some(1 << 20), "{table}");
            let snapshot = collect(Some(copy.clone()), move || unmount(&path));
            assert_eq!(total(&snapshot, "gone"), None, "{table}: the disk below must not answer");
        }
        let path = node.tmpfs_volume("gone", "size=1m");
        let snapshot = collect(Some("/proc/self/mounts".into()), move || unmount(&path));
        assert!(snapshot.volumes.is_empty(), "a live table tells that it is gone");
    });
}
