use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::support::PATIENCE;
use crate::support::exporter::Exporter;
use crate::support::namespace::{Needs, in_namespace, tmpfs};

/// Waits so long that the next moment lies anywhere in a scrape.
fn wait_for_any_moment(random: &mut u64) {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let time = Duration::from_nanos((*random >> 33) % 2_000_000);
    let start = Instant::now();
    while start.elapsed() < time {
        std::thread::yield_now();
    }
}

/// The kernel refuses to unmount while somebody is inside a call about the mount, however short: of `statvfs` that is
/// some 0.2 µs, and there is no other way to ask. So under scrapes without a pause, which make ten collections a second,
/// hardly an unmount is refused, and the next try is not: whoever holds a volume fails this test at once.
#[test]
fn volumes_unmount_while_they_are_scraped_without_a_pause() {
    let name = "unmounts::volumes_unmount_while_they_are_scraped_without_a_pause";
    in_namespace(name, Needs::Mounts, |node| {
        node.tmpfs_volume("calm", "size=1m");
        let path = node.tmpfs_volume("restless", "size=1m");
        let exporter = Exporter::start(&["--rootfs=/"]);
        let (stop, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
        let scrape = || {
            while !stop.load(Ordering::Relaxed) {
                let scrape = exporter.scrape();
                assert_eq!(scrape.volume("calm")["pv_disk_usage_up"], 1.0);
                seen.fetch_add(usize::from(!scrape.volume("restless").is_empty()), Ordering::Relaxed);
            }
        };
        let begin = Instant::now();
        let refusals: Vec<usize> = std::thread::scope(|scope| {
            (0..3).for_each(|_| drop(scope.spawn(scrape)));
            let mut random = 1;
            let mut refusals = Vec::new();
            let is_enough = |unmounts| unmounts >= 1_000 && seen.load(Ordering::Relaxed) > 100;
            while !is_enough(refusals.len()) && begin.elapsed() < PATIENCE {
                wait_for_any_moment(&mut random);
                let mut refused = 0;
                while let Err(error) = umount2(&path, MntFlags::empty()) {
                    assert_eq!(error, Errno::EBUSY);
                    refused += 1;
                    if refused > 1_000 {
                        break;
                    }
                }
                tmpfs(&path, "size=1m");
                refusals.push(refused);
            }
            stop.store(true, Ordering::Relaxed);
            refusals
        });
        let seen = seen.into_inner();
        assert!(seen > 100, "it was measured {seen} times only");
        let (unmounts, times) = (refusals.len(), refusals.iter().filter(|count| **count > 0).count());
        let most = refusals.iter().max();
        assert!(times <= unmounts / 50, "{times} of {unmounts} unmounts are refused, up to {most:?} times");
    });
}
