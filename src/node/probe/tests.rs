use super::schedule::ADOPTED_WITHIN;
use super::*;
use crate::runtime::{CancelHandle, Cutoff};
use crate::volume::samples::mount;
use crate::volume::{Measurement, ProbeError, ProbeResult};
use proptest::prelude::*;
use std::collections::HashSet;

/// How many threads there are, and how many of them are inside a probe.
#[derive(Debug, PartialEq, Eq)]
struct PoolStats {
    threads: usize,
    in_flight: usize,
}

impl ProbePool {
    fn stats(&self) -> PoolStats {
        let schedule = self.shared.lock();
        PoolStats { threads: schedule.threads, in_flight: schedule.in_flight.len() }
    }
}

impl ProbePool {
    fn results(&mut self, mounts: &[Arc<VolumeMount>], deadline: &Deadline) -> Vec<ProbeResult> {
        self.probe(mounts, deadline).into_iter().map(|(result, _)| result).collect()
    }
}

const SIZE: ProbeResult = Ok(Measurement::Block { size: 1 });
const TIMEOUT: ProbeResult = Err(ProbeError { reason: Reason::Timeout, errno: None });
const SKIPPED: ProbeResult = Err(ProbeError { reason: Reason::Skipped, errno: None });
const PANICKED: ProbeResult = Err(ProbeError { reason: Reason::Other, errno: None });

/// Mounts whose name begins with `panic` panic, those in `hanging` hang until they are released, all others answer.
#[derive(Default)]
struct Scripted {
    state: Mutex<Script>,
    changed: Condvar,
}

#[derive(Default)]
struct Script {
    hanging: HashSet<String>,
    /// The names of all probes, in their order.
    probed: Vec<String>,
    /// Probes that are inside a mount.
    inside: Vec<String>,
}

impl Scripted {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_hanging(&self, names: impl IntoIterator<Item = impl Into<String>>) {
        self.lock().hanging = names.into_iter().map(Into::into).collect();
        self.changed.notify_all();
    }

    /// Waits until as many probes are inside mounts.
    fn wait_for_inside(&self, count: usize) {
        let mut state = self.lock();
        while state.inside.len() != count {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn count(&self, name: &str) -> usize {
        self.lock().probed.iter().filter(|probed| *probed == name).count()
    }
}

impl Probe for Scripted {
    fn probe(&self, mount: &VolumeMount) -> ProbeResult {
        let name = &mount.name;
        let mut state = self.lock();
        state.probed.push(name.clone());
        state.inside.push(name.clone());
        self.changed.notify_all();
        while state.hanging.contains(name) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.inside.retain(|inside| inside != name);
        self.changed.notify_all();
        drop(state);
        assert!(!name.starts_with("panic"), "a bug");
        SIZE
    }
}

fn pool() -> (ProbePool, Arc<Scripted>) {
    let scripted = Arc::new(Scripted::default());
    (ProbePool::new(Arc::clone(&scripted) as Arc<dyn Probe>), scripted)
}

fn mounts(names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Arc<VolumeMount>> {
    names.into_iter().map(|name| Arc::new(mount(name.as_ref(), "nfs", "uid"))).collect()
}

fn healthy(count: usize) -> Vec<Arc<VolumeMount>> {
    mounts((0..count).map(|number| format!("ok-{number}")))
}

/// Long enough for healthy mounts, and what a test waits for mounts that hang.
fn soon() -> Deadline {
    Deadline::after(2 * ADOPTED_WITHIN)
}

fn late() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}

fn past() -> Deadline {
    Deadline::after(Duration::ZERO)
}

#[test]
fn every_mount_is_probed_once_and_results_keep_their_order() {
    let (mut pool, scripted) = pool();
    let mounts = healthy(1000);
    for round in 1..=3 {
        assert_eq!(pool.results(&mounts, &late()), vec![SIZE; 1000]);
        assert_eq!(scripted.lock().probed.len(), 1000 * round);
    }
    assert!(pool.stats().threads <= MAX_WORKERS);
    assert_eq!(pool.results(&[], &late()), []);
}

#[test]
fn one_thread_is_there_before_the_first_round() {
    assert_eq!(pool().0.stats(), PoolStats { threads: 1, in_flight: 0 });
}

#[test]
fn a_hung_mount_costs_one_deadline_and_one_thread() {
    let (mut pool, scripted) = pool();
    let mounts = mounts(["ok-1", "hung", "ok-2"]);
    scripted.set_hanging(["hung"]);
    assert_eq!(pool.results(&mounts, &soon()), [SIZE, TIMEOUT, SIZE]);
    for _ in 0..20 {
        // Were the hung mount waited for, this would take its minute.
        assert_eq!(pool.results(&mounts, &late()), [SIZE, TIMEOUT, SIZE]);
    }
    assert_eq!((scripted.count("hung"), pool.stats().in_flight), (1, 1));
    assert!(pool.stats().threads < 10, "the threads must not grow with the rounds");
    scripted.set_hanging([""; 0]);
    while pool.stats().in_flight > 0 {
        thread::yield_now();
    }
    // The late result is dropped; the next round probes the mount again.
    assert_eq!(pool.results(&mounts, &late()), [SIZE; 3]);
    assert_eq!(scripted.count("hung"), 2);
}

#[test]
fn more_hung_mounts_than_workers_hide_none_that_answers() {
    let (mut pool, scripted) = pool();
    let hung: Vec<String> = (0..300).map(|number| format!("hung-{number}")).collect();
    let all = [mounts(&hung), healthy(100)].concat();
    scripted.set_hanging(&hung);
    let results = pool.results(&all, &Deadline::after(Duration::from_secs(3)));
    assert_eq!(results, [vec![TIMEOUT; 300], vec![SIZE; 100]].concat());
    assert_eq!(pool.results(&all, &late())[300..], [SIZE; 100]);
    assert!(pool.stats().threads < 300 + MAX_WORKERS);
    scripted.set_hanging([""; 0]);
}

#[test]
fn a_skipped_mount_comes_first_the_next_time() {
    let (mut pool, scripted) = pool();
    let all = healthy(3);
    // A thread that is still starting would take a mount.
    while pool.shared.lock().idle == 0 {
        thread::yield_now();
    }
    assert_eq!(pool.results(&all, &past()), [SKIPPED; 3]);
    assert_eq!(scripted.lock().probed.len(), 0);
    let order = |pool: &mut ProbePool, mounts: &[Arc<VolumeMount>]| {
        pool.shared.lock().set_mounts(mounts);
        pool.shared.lock().order()
    };
    assert_eq!(pool.results(&all[1..], &late()), [SIZE; 2]);
    assert_eq!(order(&mut pool, &all), [1, 2, 0], "1 and 2 answered; 0 was never probed");
    assert_eq!(pool.results(&all[2..], &past()), [SKIPPED]);
    assert_eq!(order(&mut pool, &all), [2, 0, 1], "2 was skipped; what is gone is forgotten");
}

#[test]
fn workers_end_with_their_pool() {
    let (mut pool, _scripted) = pool();
    pool.results(&healthy(10), &late());
    let shared = Arc::clone(&pool.shared);
    drop(pool);
    while Arc::strong_count(&shared) > 1 {
        thread::yield_now();
    }
}

#[test]
fn cancelling_ends_the_round_with_the_results_of_healthy_mounts() {
    let (mut pool, scripted) = pool();
    scripted.set_hanging(["hung"]);
    let cancel = CancelHandle::default();
    let deadline = Deadline::new(Instant::now() + Duration::from_mins(1), &cancel);
    let cancelling = {
        let scripted = Arc::clone(&scripted);
        thread::spawn(move || {
            scripted.wait_for_inside(1);
            cancel.cancel();
        })
    };
    assert_eq!(pool.results(&mounts(["hung", "ok"]), &deadline), [TIMEOUT, SIZE]);
    cancelling.join().unwrap();
    scripted.set_hanging([""; 0]);
}

#[test]
fn a_round_that_was_cut_short_goes_on_with_its_collection() {
    let (mut pool, scripted) = pool();
    let all = mounts(["hung", "ok"]);
    scripted.set_hanging(["hung"]);
    let began = Instant::now();
    let cut = || {
        let cutoff = Cutoff::default();
        cutoff.bring_forward(Instant::now() + Duration::from_millis(300));
        late().resuming(began, cutoff)
    };
    assert_eq!(pool.results(&all, &cut()), [TIMEOUT, SIZE]);
    assert_eq!(pool.results(&all, &cut()), [TIMEOUT, SIZE], "it is still waited for");
    scripted.set_hanging([""; 0]);
    assert_eq!(pool.results(&all, &late().resuming(began, Cutoff::default())), [SIZE; 2]);
    assert_eq!(["hung", "ok"].map(|name| scripted.count(name)), [1, 1], "in one round");
    scripted.set_hanging(["hung"]);
    assert_eq!(pool.results(&all, &cut()), [TIMEOUT, SIZE]);
    // One that nobody goes on with has ended; its probe is waited for once more.
    assert_eq!(pool.results(&all, &soon()), [TIMEOUT, SIZE]);
    assert_eq!(["hung", "ok"].map(|name| scripted.count(name)), [2, 3]);
    scripted.set_hanging([""; 0]);
}

#[test]
fn beyond_the_limit_no_thread_is_started() {
    let (mut pool, scripted) = pool();
    let mut schedule = pool.shared.lock();
    let hung_before = MAX_THREADS - 2;
    schedule.threads += hung_before;
    schedule.probes = hung_before as u64;
    let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let lost = Arc::new(VolumeMount { device: "other:/".into(), ..mount("lost", "nfs", "uid") });
    let probe = || schedule::InFlight { since: long_ago, mount: Arc::clone(&lost), position: None };
    schedule.in_flight = (1..=schedule.probes).map(|number| (number, probe())).collect();
    drop(schedule);
    let hung: Vec<String> = (0..5).map(|number| format!("hung-{number}")).collect();
    scripted.set_hanging(&hung);
    let results = pool.results(&mounts(&hung), &soon());
    // The rest of the threads is for other servers.
    assert_eq!(results, [TIMEOUT, SKIPPED, SKIPPED, SKIPPED, SKIPPED]);
    assert_eq!(pool.stats(), PoolStats { threads: MAX_THREADS, in_flight: MAX_THREADS - 1 });
    scripted.set_hanging([""; 0]);
}

#[test]
fn mounts_that_hang_leave_threads_to_other_servers_and_to_mounts_that_come_later() {
    let mut schedule = Schedule::default();
    schedule.threads = 10;
    let mut servers = vec!["a"; 20];
    servers.push("b");
    assert_eq!(probed_of(&mut schedule, &servers), [0, 1, 2, 3, 4, 5, 20], "the rest is for other servers");
    assert_eq!(probed_of(&mut schedule, &servers), [0; 0]);
    servers.extend(["a", "c", "c", "d", "e"]);
    assert_eq!(probed_of(&mut schedule, &servers), [22, 24, 25], "one of each, until no thread is left");
}

#[test]
fn a_new_mount_has_a_thread_beside_one_that_answered() {
    let (mut pool, _scripted) = pool();
    let local = |name| Arc::new(VolumeMount { device: "tmpfs".into(), ..mount(name, "nfs", "uid") });
    for names in [&["first"][..], &["first", "second"], &["first", "second", "third"]] {
        let mounts: Vec<_> = names.iter().copied().map(local).collect();
        assert_eq!(pool.results(&mounts, &late()), vec![SIZE; names.len()]);
    }
}

#[test]
fn no_more_workers_are_at_work_than_may_be_however_many_threads_there_are() {
    let mut schedule = Schedule::default();
    schedule.threads = 1000;
    schedule.set_mounts(&healthy(1000));
    schedule.begin_round(thread::current());
    let now = Instant::now();
    assert_eq!(std::iter::from_fn(|| schedule.next(now)).count(), MAX_WORKERS);
    assert_eq!(schedule.missing_workers(MAX_WORKERS, now), (0, 0));
}

#[test]
fn a_probe_that_a_short_round_began_is_waited_for_by_the_next() {
    let mut schedule = Schedule::default();
    schedule.threads = 1;
    schedule.set_mounts(&mounts(["slow"]));
    schedule.begin_round(thread::current());
    let (probe, _) = schedule.next(Instant::now()).unwrap();
    assert_eq!(schedule.end_round()[0].0, TIMEOUT);
    schedule.begin_round(thread::current());
    assert_eq!(schedule.outstanding, 1);
    assert!(schedule.finish(probe, SIZE).is_some());
    assert_eq!(schedule.end_round()[0].0, SIZE);
    // One that was waited for long enough has its result.
    schedule.begin_round(thread::current());
    let (probe, _) = schedule.next(Instant::now().checked_sub(Duration::from_secs(1)).unwrap()).unwrap();
    assert_eq!(schedule.end_round()[0].0, TIMEOUT);
    schedule.begin_round(thread::current());
    assert_eq!(schedule.outstanding, 0);
    assert!(schedule.finish(probe, SIZE).is_none());
}

/// A round of these servers' mounts by a pool that is given no more threads, and in which every mount hangs: those that
/// are probed, by number.
fn probed_of(schedule: &mut Schedule, servers: &[&str]) -> Vec<usize> {
    let mount = |(number, server): (usize, &&str)| {
        let name = number.to_string();
        Arc::new(VolumeMount { device: format!("{server}:/{name}").into(), ..mount(&name, "nfs", "uid") })
    };
    let mounts: Vec<_> = servers.iter().enumerate().map(mount).collect();
    schedule.set_mounts(&mounts);
    schedule.begin_round(thread::current());
    let number = |(_, mount): (u64, Arc<VolumeMount>)| mount.name.parse().unwrap();
    let probed = std::iter::from_fn(|| schedule.next(Instant::now())).map(number).collect();
    schedule.end_round();
    probed
}

/// What a mount does from some round on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Answers,
    Panics,
    Hangs,
    Unmounted,
}

/// Six mounts' behaviours in each of up to eight rounds.
fn rounds() -> impl Strategy<Value = Vec<Vec<Behaviour>>> {
    let behaviour = prop_oneof![
        4 => Just(Behaviour::Answers),
        1 => Just(Behaviour::Panics),
        2 => Just(Behaviour::Hangs),
        1 => Just(Behaviour::Unmounted),
    ];
    proptest::collection::vec(proptest::collection::vec(behaviour, 6), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    /// One result for each mount; a hung mount is never probed twice; all others have their result before the deadline.
    #[test]
    fn a_round_has_a_result_for_each_mount_and_never_probes_a_hung_one_again(rounds in rounds()) {
        let (mut pool, scripted) = pool();
        let name = |position: usize, behaviour: Behaviour| {
            let kind = if behaviour == Behaviour::Panics { "panic" } else { "mount" };
            format!("{kind}-{position}")
        };
        for behaviours in rounds {
            let present: Vec<(String, Behaviour)> = behaviours
                .iter()
                .enumerate()
                .filter(|(_, behaviour)| **behaviour != Behaviour::Unmounted)
                .map(|(position, behaviour)| (name(position, *behaviour), *behaviour))
                .collect();
            let hanging = present.iter().filter(|(_, behaviour)| *behaviour == Behaviour::Hangs);
            let hanging: Vec<&str> = hanging.map(|(name, _)| name.as_str()).collect();
            scripted.set_hanging(hanging.iter().copied());
            // Mounts that recovered are free before the round begins.
            let still_inside = scripted.lock().inside.iter().filter(|name| hanging.contains(&name.as_str())).count();
            scripted.wait_for_inside(still_inside);
            while pool.stats().in_flight != still_inside {
                thread::yield_now();
            }
            let inside_before = scripted.lock().inside.clone();
            let probed_before = scripted.lock().probed.len();
            let is_new_hang = hanging.iter().any(|name| !inside_before.contains(&(*name).to_owned()));
            let deadline = if is_new_hang { Deadline::after(2 * ADOPTED_WITHIN) } else { late() };
            let results = pool.results(&mounts(present.iter().map(|(name, _)| name)), &deadline);
            let expected: Vec<ProbeResult> = present.iter().map(|(_, behaviour)| match behaviour {
                Behaviour::Answers | Behaviour::Unmounted => SIZE,
                Behaviour::Panics => PANICKED,
                Behaviour::Hangs => TIMEOUT,
            }).collect();
            prop_assert_eq!(results, expected);
            let mut probed = scripted.lock().probed[probed_before..].to_vec();
            probed.sort_unstable();
            let mut due: Vec<String> =
                present.iter().map(|(name, _)| name.clone()).filter(|name| !inside_before.contains(name)).collect();
            due.sort_unstable();
            prop_assert_eq!(probed, due, "each mount once, but those that hang");
        }
        scripted.set_hanging([""; 0]);
    }
}
