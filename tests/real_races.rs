use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use disk_usage_exporter::cluster::MetadataHandle;
use disk_usage_exporter::collect::{Collector, CollectorInputs};
use disk_usage_exporter::node::{KernelProbe, MountRootProof, Node, NodeSettings, VolumeMatcher};
use disk_usage_exporter::runtime::{BlockingWorker, Deadline};
use disk_usage_exporter::snapshot::Snapshot;
use disk_usage_exporter::volume::{Measurement, Probe, ProbeResult, Reason, VolumeMount};

use nix::mount::{MntFlags, umount2};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::support::PATIENCE;
use crate::support::namespace::{Needs, in_namespace, tmpfs, unmount};

/// The kernel, and something that happens just before it is asked.
struct Meanwhile<F> {
    kernel: KernelProbe,
    event: Mutex<Option<F>>,
}

impl<F: FnOnce() + Send> Probe for Meanwhile<F> {
    fn probe(&self, mount: &VolumeMount) -> ProbeResult {
        if let Some(event) = self.event.lock().unwrap().take() {
            event();
        }
        self.kernel.probe(mount)
    }
}

/// Each way to prove that a path is a mount: that of the kernel here, and that of kernels before 5.8.
const PROOFS: [MountRootProof; 2] = [MountRootProof::Statx, MountRootProof::Fdinfo];

fn collector(mount_table: Option<&Path>, measure: impl Probe + 'static) -> Collector {
    let host_files = BlockingWorker::start("host-files").unwrap();
    let (mount_table, matcher) = (mount_table.map(Path::to_owned), VolumeMatcher::default());
    let settings = NodeSettings { rootfs: "/".into(), mount_table, matcher, is_recorded: false };
    let node = Node::open(settings, Arc::new(measure), &host_files).unwrap();
    Collector::new(CollectorInputs {
        mounts: Some((node, MetadataHandle::none())),
        kubelet: None,
        host_files,
        names: None,
    })
}

/// One collection, with an event between the reading of the table and the measurement; and how often the table was read.
fn collect(
    proof: MountRootProof,
    table: Option<&Path>,
    event: impl FnOnce() + Send + 'static,
) -> (Snapshot, u64) {
    let kernel = KernelProbe::new("/".into(), proof);
    let measure = Meanwhile { kernel, event: Mutex::new(Some(event)) };
    let (mut collector, mut registry) = (collector(table, measure), Registry::default());
    collector.register_metrics(&mut registry);
    let snapshot = collector.collect(&Deadline::after(Duration::from_mins(1)));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let reads =
        text.lines().find_map(|line| line.strip_prefix("disk_usage_exporter_mount_table_reads_total "));
    (snapshot, reads.unwrap().parse().unwrap())
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
    in_namespace(Needs::Mounts, |node| {
        node.tmpfs_volume("there", "size=2m");
        for proof in PROOFS {
            let path = node.tmpfs_volume("gone", "size=1m");
            let (snapshot, reads) = collect(proof, None, move || unmount(&path));
            let names: Vec<&str> = snapshot.volumes.iter().map(|v| v.volume.pv_name.as_str()).collect();
            assert_eq!(names, ["there"], "{proof:?}");
            assert_eq!(total(&snapshot, "there"), Some(2 << 20));
            assert_eq!(reads, 2);
        }
    });
}

#[test]
fn a_scrape_without_an_unmount_reads_the_table_once() {
    in_namespace(Needs::Mounts, |node| {
        node.tmpfs_volume("there", "size=2m");
        for proof in PROOFS {
            let elsewhere = node.path().join("elsewhere");
            std::fs::create_dir_all(&elsewhere).unwrap();
            // A mount elsewhere changes the table, but no figures.
            let (snapshot, reads) = collect(proof, None, move || tmpfs(&elsewhere, "size=1m"));
            assert_eq!(total(&snapshot, "there"), Some(2 << 20));
            assert_eq!(reads, 1, "{proof:?}");
            unmount(&node.path().join("elsewhere"));
        }
    });
}

#[test]
fn another_mount_in_its_place_is_measured_as_pods_see_it() {
    in_namespace(Needs::Mounts, |node| {
        for proof in PROOFS {
            let path = node.tmpfs_volume("swapped", "size=1m");
            let swapped = path.clone();
            let (snapshot, _) = collect(proof, None, move || {
                unmount(&swapped);
                tmpfs(&swapped, "size=4m");
            });
            assert_eq!(total(&snapshot, "swapped"), Some(4 << 20), "{proof:?}");
            unmount(&path);
        }
    });
}

#[test]
fn the_disk_below_never_answers_however_fast_a_volume_comes_and_goes() {
    in_namespace(Needs::Mounts, |node| {
        for proof in PROOFS {
            let path = node.tmpfs_volume("restless", "size=1m");
            let mut collector = collector(None, KernelProbe::new("/".into(), proof));
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
            let (count, all) = (wrong.len(), totals.len());
            assert!(wrong.is_empty(), "{proof:?}: {count} of {all} are of the disk below: {:?}", wrong[0]);
            unmount(&path);
        }
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
    in_namespace(Needs::Mounts, |node| {
        // Two foreign tables: a copy, whose ids mean nothing here, and one without ids.
        let copy = node.path().join("copy");
        for (proof, table) in PROOFS
            .into_iter()
            .flat_map(|proof| ["/proc/self/mountinfo", "/proc/self/mounts"].map(|table| (proof, table)))
        {
            let path = node.tmpfs_volume("gone", "size=1m");
            std::fs::write(&copy, std::fs::read(table).unwrap()).unwrap();
            assert_eq!(total(&collect(proof, Some(&copy), || ()).0, "gone"), Some(1 << 20), "{table}");
            let (snapshot, _) = collect(proof, Some(&copy), move || unmount(&path));
            let [volume] = &snapshot.volumes[..] else { panic!("the copy still shows it") };
            assert_eq!(volume.errors()[0].reason, Reason::NotMounted, "{proof:?}, {table}");
        }
        let path = node.tmpfs_volume("gone", "size=1m");
        let (snapshot, _) = collect(PROOFS[0], Some(Path::new("/proc/self/mounts")), move || unmount(&path));
        assert!(snapshot.volumes.is_empty(), "a live table tells that it is gone");
    });
}
