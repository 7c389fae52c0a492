use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::endurance::random_below;
use crate::real_mounts::exporter;
use crate::support::PATIENCE;
use crate::support::namespace::{Needs, in_namespace, tmpfs};

const MAX_WAIT_MICROSECONDS: usize = 2_000;
/// Between two attempts at an unmount; the kubelet waits longer.
const RETRY_DELAY: Duration = Duration::from_millis(10);
/// After so many refusals in a row the program holds the volume.
const HELD: usize = 1_000;

/// The kernel refuses to unmount while a thread is inside a call about the mount, or holds a descriptor of it as a probe
/// does for some microseconds. Scrapes back to back make ten collections a second.
#[test]
fn unmounts_are_hardly_refused_under_scrapes_back_to_back() {
    assert_refused_at_most(10_000 / 100, 2, 3, Duration::ZERO, 10_000);
}

#[test]
fn at_one_scrape_a_second_at_most_one_of_20_000_unmounts_is_refused() {
    assert_refused_at_most(1, HELD, 1, Duration::from_secs(1), 20_000);
}

/// Unmounts a volume at random moments and mounts it again, while these scrapers scrape: no more unmounts are refused,
/// nor is one more often in a row.
fn assert_refused_at_most(times: usize, in_a_row: usize, scrapers: usize, pause: Duration, unmounts: usize) {
    in_namespace(Needs::Mounts, |node| {
        node.tmpfs_volume("calm", "size=1m");
        let path = node.tmpfs_volume("restless", "size=1m");
        let exporter = exporter();
        let (stop, measured) = (AtomicBool::new(false), AtomicUsize::new(0));
        let scrape = || {
            while !stop.load(Ordering::Relaxed) {
                let scrape = exporter.scrape();
                assert_eq!(scrape.volume("calm")["pv_disk_usage_up"], 1.0);
                measured.fetch_add(usize::from(!scrape.volume("restless").is_empty()), Ordering::Relaxed);
                thread::sleep(pause);
            }
        };
        let (begin, mut random) = (Instant::now(), 1);
        let (mut done, mut refused, mut most) = (0, 0, 0);
        thread::scope(|scope| {
            (0..scrapers).for_each(|_| drop(scope.spawn(scrape)));
            while (done < unmounts || measured.load(Ordering::Relaxed) <= 10)
                && begin.elapsed() < 2 * PATIENCE
            {
                // The next moment lies anywhere in a scrape.
                let wait = random_below(&mut random, MAX_WAIT_MICROSECONDS);
                thread::sleep(Duration::from_micros(wait as u64));
                let refusals = unmount(&path);
                tmpfs(&path, "size=1m");
                (done, refused, most) = (done + 1, refused + usize::from(refusals > 0), most.max(refusals));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let counts = format!("{refused} unmounts refused of {done}, at most {most} times in a row");
        println!("{counts}");
        let measured = measured.into_inner();
        assert!(done >= unmounts && measured > 10, "{done} unmounts, measured {measured} times");
        // Where more were needed until enough was measured, more may be refused.
        assert!(refused <= times * done / unmounts && most <= in_a_row, "{counts}");
    });
}

/// How often the kernel refused before it unmounted; gives up where the volume is held.
fn unmount(path: &Path) -> usize {
    let is_refused = |_: &usize| umount2(path, MntFlags::empty()) == Err(Errno::EBUSY);
    // On a busy machine the program may have to wait for a processor before it can let go.
    let refused = (0..HELD).take_while(is_refused).inspect(|_| thread::sleep(RETRY_DELAY)).count();
    if refused == HELD {
        let _ = umount2(path, MntFlags::MNT_DETACH);
    }
    refused
}
