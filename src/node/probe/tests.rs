use super::*;
use crate::volume::{Measurement, VolumeMode};
use std::path::PathBuf;
use std::sync::mpsc;

/// Answers at once, but for mounts whose path begins with `/hang`: these wait until the test lets them go.
struct Scripted {
    gate: Mutex<mpsc::Receiver<()>>,
    asked: Mutex<Vec<PathBuf>>,
}

const SIZE: ProbeResult = Ok(Measurement::Block { size: 1 });

impl Measure for Scripted {
    fn measure(&self, target: &Target) -> ProbeResult {
        self.asked.lock().unwrap().push(target.path.clone());
        assert!(!target.path.starts_with("/panic"), "a bug");
        if target.path.starts_with("/hang") {
            let _ = self.gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
        SIZE
    }
}

fn prober() -> (Prober, Arc<Scripted>, mpsc::Sender<()>) {
    let (release, gate) = mpsc::channel();
    let scripted = Arc::new(Scripted { gate: Mutex::new(gate), asked: Mutex::default() });
    (Prober::new(scripted.clone()), scripted, release)
}

/// Measures these mounts from now on.
fn watch(prober: &mut Prober, paths: impl IntoIterator<Item = impl Into<PathBuf>>) {
    let target = |path: PathBuf| Target {
        mountpoint: path.clone(),
        path,
        device: "nas:/export".into(),
        id: None,
        own_table: true,
        mode: VolumeMode::Filesystem,
    };
    prober.watch(paths.into_iter().map(|path| target(path.into())).collect());
}

fn healthy(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("/ok/{i}")).collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

fn late() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

const TIMEOUT: ProbeResult = Err(crate::volume::ProbeError { reason: Reason::Timeout, errno: None });
const SKIPPED: ProbeResult = Err(crate::volume::ProbeError { reason: Reason::Skipped, errno: None });

#[test]
fn every_mount_is_asked_once_and_answers_keep_their_order() {
    let (mut prober, scripted, _release) = prober();
    watch(&mut prober, healthy(1000));
    for round in 1..=3 {
        assert_eq!(prober.measure(late()), vec![SIZE; 1000]);
        assert_eq!(scripted.asked.lock().unwrap().len(), 1000 * round);
    }
    assert!(prober.shared.lock().threads <= MOST_WORKERS);
    watch(&mut prober, healthy(0));
    assert_eq!(prober.measure(late()), []);
}

#[test]
fn a_hung_mount_costs_one_deadline_and_one_thread() {
    let (mut prober, scripted, release) = prober();
    watch(&mut prober, ["/ok/1", "/hang/1", "/ok/2"]);
    assert_eq!(prober.measure(soon()), [SIZE, TIMEOUT, SIZE]);
    for _ in 0..20 {
        // Were the hung mount waited for, this would take its minute.
        assert_eq!(prober.measure(late()), [SIZE, TIMEOUT, SIZE]);
    }
    let asked = scripted.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|path| path.starts_with("/hang")).count(), 1);
    assert!(prober.shared.lock().threads < 10, "the threads must not grow with the rounds");
    release.send(()).unwrap();
    // The late answer is thrown away; the round that finds the mount free again asks it anew.
    drop(release);
    while prober.subjects[1].is_asked() {
        std::thread::yield_now();
    }
    assert_eq!(prober.measure(late()), [SIZE; 3]);
}

#[test]
fn more_hung_mounts_than_workers_hide_none_that_answers() {
    let (mut prober, _scripted, release) = prober();
    let hung = 300;
    let mut paths: Vec<String> = (0..hung).map(|i| format!("/hang/{i}")).collect();
    paths.extend(healthy(100));
    watch(&mut prober, paths);
    let deadline = Instant::now() + Duration::from_secs(3);
    let answers = prober.measure(deadline);
    assert_eq!(answers[hung..], vec![SIZE; 100]);
    assert_eq!(answers[..hung], vec![TIMEOUT; 300]);
    assert_eq!(prober.measure(late())[hung..], vec![SIZE; 100]);
    assert!(prober.shared.lock().threads < hung + MOST_WORKERS);
    drop(release);
}

#[test]
fn who_was_not_asked_is_skipped_and_goes_first_next_time() {
    let (mut prober, scripted, release) = prober();
    watch(&mut prober, healthy(3));
    let past = Instant::now();
    assert_eq!(prober.measure(past), [SKIPPED; 3]);
    assert!(scripted.asked.lock().unwrap().is_empty());
    let order = |prober: &Prober| prober.jobs().iter().map(|job| job.slot).collect::<Vec<_>>();
    watch(&mut prober, &healthy(3)[1..]);
    assert_eq!(prober.measure(late()), [SIZE; 2]);
    watch(&mut prober, healthy(3));
    assert_eq!(order(&prober), [1, 2, 0], "1 and 2 answered; 0 was never asked");
    watch(&mut prober, &healthy(3)[2..]);
    assert_eq!(prober.measure(past), [SKIPPED]);
    watch(&mut prober, healthy(3));
    assert_eq!(order(&prober), [2, 0, 1], "2 was left out; what is gone is forgotten");
    drop(release);
}

#[test]
fn a_panic_costs_one_measurement() {
    let (mut prober, _scripted, _release) = prober();
    watch(&mut prober, ["/ok/1", "/panic/1", "/ok/2"]);
    for _ in 0..3 {
        let answers = prober.measure(late());
        assert_eq!(answers, [SIZE, Err(Reason::Other.into()), SIZE]);
    }
    assert!(prober.shared.lock().threads <= MOST_WORKERS);
}

#[test]
fn workers_end_with_their_prober() {
    let (mut prober, _scripted, _release) = prober();
    watch(&mut prober, healthy(10));
    prober.measure(late());
    let shared = Arc::clone(&prober.shared);
    drop(prober);
    while Arc::strong_count(&shared) > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn a_hung_mount_that_is_gone_for_a_while_is_not_asked_twice() {
    let (mut prober, scripted, release) = prober();
    watch(&mut prober, ["/ok/1", "/hang/1"]);
    assert_eq!(prober.measure(soon()), [SIZE, TIMEOUT]);
    watch(&mut prober, ["/ok/1"]);
    assert_eq!(prober.measure(late()), [SIZE]);
    watch(&mut prober, ["/hang/1", "/ok/1"]);
    assert_eq!(prober.measure(late()), [TIMEOUT, SIZE]);
    let asked = scripted.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|path| path.starts_with("/hang")).count(), 1);
    drop(release);
}

#[test]
fn an_interrupt_ends_the_round() {
    let (mut prober, _scripted, release) = prober();
    watch(&mut prober, ["/ok/1", "/hang/1"]);
    let interrupt = prober.interrupt();
    let hangs = Arc::clone(&prober.subjects[1]);
    let interrupting = std::thread::spawn(move || {
        while !hangs.is_asked() {
            std::thread::yield_now();
        }
        interrupt.end_measuring();
    });
    assert_eq!(prober.measure(late())[1], TIMEOUT, "it is not waited for a minute");
    interrupting.join().unwrap();
    drop(release);
}

#[test]
fn beyond_the_limit_mounts_that_never_answered_are_tried_one_by_one() {
    let (mut prober, _scripted, release) = prober();
    prober.shared.lock().limits.hung = 10;
    let mut paths: Vec<String> = (0..200).map(|i| format!("/hang/{i}")).collect();
    paths.extend(healthy(1));
    watch(&mut prober, &paths);
    assert_eq!(prober.measure(soon())[200], SKIPPED, "it is not its turn yet");
    // Before any counted as hung, as many were asked as may be.
    let threads = prober.shared.lock().threads;
    assert!(threads < MOST_WORKERS + 20, "{threads}");
    // Who was left out is new yet, and goes before those that were asked in vain.
    let left: Vec<String> = paths[190..].to_vec();
    watch(&mut prober, left);
    assert_eq!(prober.measure(late_enough()).last(), Some(&SIZE), "its turn comes");
    drop(release);
}

/// Some trials more than there are mounts to be tried.
fn late_enough() -> Instant {
    Instant::now() + Duration::from_secs(5)
}
