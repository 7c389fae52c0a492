use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use disk_usage_exporter::cluster::MetadataHandle;
use disk_usage_exporter::collect::{Collector, CollectorInputs};
use disk_usage_exporter::node::{KernelProbe, MountRootProof, Node, NodeSettings, VolumeMatcher};
use disk_usage_exporter::runtime::{BlockingWorker, Deadline};
use disk_usage_exporter::snapshot::Snapshot;
use disk_usage_exporter::volume::{Exclusions, Measurement, Probe, ProbeResult, VolumeMount};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::endurance::random_below;
use crate::real_mounts::exporter;
use crate::support::namespace::{Needs, in_namespace, tmpfs, unmount};
use crate::support::{PATIENCE, env_number};

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

/// Each way to prove that a path is a mount: that of this kernel, and that of kernels before 5.8.
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
        exclusions: Exclusions::default(),
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
    let snapshot = collector.collect(&Deadline::after(PATIENCE));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let reads =
        text.lines().find_map(|line| line.strip_prefix("disk_usage_exporter_mount_table_reads_total "));
    (snapshot, reads.unwrap().parse().unwrap())
}

/// The volumes, and how many bytes each of those that are measured has.
fn totals(snapshot: &Snapshot) -> Vec<(&str, Option<u128>)> {
    let total = |measurement| match measurement {
        Measurement::Filesystem(usage) => usage.total,
        Measurement::Block { size } => size,
    };
    let volumes = snapshot.volumes.iter();
    volumes.map(|volume| (&volume.volume.pv_name[..], volume.measurement().map(total))).collect()
}

#[test]
fn mounts_that_change_after_the_table_was_read_are_measured_as_they_are() {
    in_namespace(Needs::Mounts, |node| {
        node.tmpfs_volume("there", "size=2m");
        let elsewhere = node.path().join("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        let there = ("there", Some(2 << 20));
        let tables = [None, Some(Path::new("/proc/self/mounts"))];
        for (proof, table) in PROOFS.into_iter().flat_map(|proof| tables.map(|table| (proof, table))) {
            let case = format!("{proof:?}, {table:?}");
            let path = node.tmpfs_volume("changed", "size=1m");
            let changed = path.clone();
            let (snapshot, _) = collect(proof, table, move || {
                unmount(&changed);
                tmpfs(&changed, "size=4m");
            });
            assert_eq!(totals(&snapshot), [("changed", Some(4 << 20)), there], "{case}: another mount");
            // A mount elsewhere changes the table, but no figures.
            let mounted = elsewhere.clone();
            let (snapshot, reads) = collect(proof, table, move || tmpfs(&mounted, "size=1m"));
            assert_eq!(totals(&snapshot), [("changed", Some(4 << 20)), there], "{case}: elsewhere");
            assert_eq!(reads, 1, "{case}: elsewhere");
            unmount(&elsewhere);
            let (snapshot, reads) = collect(proof, table, move || unmount(&path));
            assert_eq!(totals(&snapshot), [there], "{case}: unmounted");
            assert_eq!(reads, 2, "{case}: unmounted");
        }
    });
}

#[test]
fn disk_below_is_never_measured_however_fast_a_volume_is_mounted_and_unmounted() {
    in_namespace(Needs::Mounts, |node| {
        for proof in PROOFS {
            let path = node.tmpfs_volume("restless", "size=1m");
            let mut collector = collector(None, KernelProbe::new("/".into(), proof));
            let (stop, start) = (AtomicBool::new(false), Instant::now());
            let (mut measured, mut wrong) = (0, Vec::new());
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // Busy while it is being measured.
                        if umount2(&path, MntFlags::empty()).is_ok() {
                            tmpfs(&path, "size=1m");
                            thread::yield_now();
                        }
                    }
                });
                while measured < 300 && start.elapsed() < PATIENCE / 4 {
                    let snapshot = collector.collect(&Deadline::after(PATIENCE));
                    let total = totals(&snapshot).into_iter().find_map(|(_, total)| total);
                    measured += usize::from(total.is_some());
                    wrong.extend(total.filter(|total| *total != 1 << 20));
                }
                stop.store(true, Ordering::Relaxed);
            });
            assert!(measured > 20, "{proof:?}: measured {measured} times only");
            assert!(wrong.is_empty(), "{proof:?}: of {measured}, the disk below: {wrong:?}");
            unmount(&path);
        }
    });
}

/// Unmounts, where the environment gives no number.
const UNMOUNTS: usize = 2_000;
/// The next unmount comes within so many microseconds: anywhere in a scrape.
const MAX_WAIT_MICROSECONDS: usize = 2_000;
/// Between two attempts at an unmount; the kubelet waits longer.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// The kernel refuses to unmount while a thread is inside a call about the mount, or holds a descriptor of it as a probe
/// does for some microseconds. Scrapes back to back make ten collections a second.
#[test]
fn at_most_one_in_a_hundred_unmounts_is_refused_under_scrapes_back_to_back() {
    in_namespace(Needs::Mounts, |node| {
        node.tmpfs_volume("calm", "size=1m");
        let path = node.tmpfs_volume("restless", "size=1m");
        let (exporter, unmounts) = (exporter(), env_number("DISK_USAGE_EXPORTER_TEST_UNMOUNTS", UNMOUNTS));
        let (stop, measured) = (AtomicBool::new(false), AtomicUsize::new(0));
        let scrape = || {
            while !stop.load(Ordering::Relaxed) {
                let scrape = exporter.scrape();
                assert_eq!(scrape.volume("calm")["pv_disk_usage_up"], 1.0);
                measured.fetch_add(usize::from(!scrape.volume("restless").is_empty()), Ordering::Relaxed);
            }
        };
        let (mut random, mut done, mut refused, mut in_a_row) = (1, 0, 0, 0);
        thread::scope(|scope| {
            (0..3).for_each(|_| drop(scope.spawn(scrape)));
            while done < unmounts || measured.load(Ordering::Relaxed) <= 10 {
                let wait = random_below(&mut random, MAX_WAIT_MICROSECONDS);
                thread::sleep(Duration::from_micros(wait as u64));
                // On a busy machine the program may have to wait for a processor before it can let go.
                let is_refused = |_: &usize| umount2(&path, MntFlags::empty()) == Err(Errno::EBUSY);
                let refusals =
                    (0..100).take_while(is_refused).inspect(|_| thread::sleep(RETRY_DELAY)).count();
                tmpfs(&path, "size=1m");
                (done, refused) = (done + 1, refused + usize::from(refusals > 0));
                in_a_row = in_a_row.max(refusals);
            }
            stop.store(true, Ordering::Relaxed);
        });
        let counts = format!("{refused} unmounts refused of {done}, at most {in_a_row} times in a row");
        println!("{counts}");
        assert!(refused <= done / 100 && in_a_row <= 2, "{counts}");
    });
}
