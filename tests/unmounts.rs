use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::support::PATIENCE;
use crate::support::exporter::Exporter;
use crate::support::namespace::{Needs, Node, in_namespace, tmpfs};

const MAX_WAIT_NANOSECONDS: u64 = 2_000_000;
/// After so many refusals in a row somebody holds the volume.
const HELD: usize = 1_000;

/// The kernel refuses to unmount while somebody is inside a call about the mount, or holds a descriptor of it as a probe
/// does for some microseconds. Scrapes back to back make ten collections a second.
#[test]
fn unmounts_are_hardly_refused_under_scrapes_back_to_back() {
    in_namespace(Needs::Mounts, |node| {
        let refusals = unmount_while_scraped(node, 3, Duration::ZERO, 10_000);
        assert!(
            times(&refusals) <= refusals.len() / 100,
            "{} of {} unmounts",
            times(&refusals),
            refusals.len()
        );
        assert!(most(&refusals) < 3, "refused {} times in a row", most(&refusals));
    });
}

#[test]
fn at_one_scrape_a_second_at_most_one_of_20_000_unmounts_is_refused() {
    in_namespace(Needs::Mounts, |node| {
        let refusals = unmount_while_scraped(node, 1, Duration::from_secs(1), 20_000);
        assert!(times(&refusals) <= 1, "{} of {} unmounts", times(&refusals), refusals.len());
    });
}

/// How many unmounts were refused.
fn times(refusals: &[usize]) -> usize {
    refusals.iter().filter(|refusals| **refusals > 0).count()
}

/// The most refusals of one unmount.
fn most(refusals: &[usize]) -> usize {
    refusals.iter().copied().max().unwrap_or(0)
}

/// Unmounts a volume at random moments and mounts it again, while these scrapers scrape. How often each unmount was
/// refused before it was done.
fn unmount_while_scraped(node: &Node, scrapers: usize, pause: Duration, unmounts: usize) -> Vec<usize> {
    node.tmpfs_volume("calm", "size=1m");
    let path = node.tmpfs_volume("restless", "size=1m");
    let exporter = Exporter::start(&["--rootfs=/"]);
    let (stop, measured) = (AtomicBool::new(false), AtomicUsize::new(0));
    let scrape = || {
        while !stop.load(Ordering::Relaxed) {
            let scrape = exporter.scrape();
            assert_eq!(scrape.volume("calm")["pv_disk_usage_up"], 1.0);
            measured.fetch_add(usize::from(!scrape.volume("restless").is_empty()), Ordering::Relaxed);
            thread::sleep(pause);
        }
    };
    let begin = Instant::now();
    let refusals: Vec<usize> = thread::scope(|scope| {
        (0..scrapers).for_each(|_| drop(scope.spawn(scrape)));
        let mut random = 1;
        let mut refusals = Vec::new();
        let is_enough = |done| done >= unmounts && measured.load(Ordering::Relaxed) > 10;
        while !is_enough(refusals.len()) && begin.elapsed() < 2 * PATIENCE {
            wait_for_any_moment(&mut random);
            refusals.push(unmount(&path));
            tmpfs(&path, "size=1m");
        }
        stop.store(true, Ordering::Relaxed);
        refusals
    });
    println!(
        "{} unmounts refused of {}, at most {} times in a row",
        times(&refusals),
        refusals.len(),
        most(&refusals)
    );
    let measured = measured.into_inner();
    assert!(
        refusals.len() >= unmounts && measured > 10,
        "{} unmounts, measured {measured} times",
        refusals.len()
    );
    refusals
}

/// Waits so long that the next moment lies anywhere in a scrape.
fn wait_for_any_moment(random: &mut u64) {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    thread::sleep(Duration::from_nanos((*random >> 33) % MAX_WAIT_NANOSECONDS));
}

/// How often the kernel refused before it unmounted; gives up where the volume is held.
fn unmount(path: &Path) -> usize {
    let refused = (0..HELD).take_while(|_| umount2(path, MntFlags::empty()) == Err(Errno::EBUSY)).count();
    if refused == HELD {
        let _ = umount2(path, MntFlags::MNT_DETACH);
    }
    refused
}
