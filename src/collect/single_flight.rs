//! Coalesces scrapes: one collection at a time, on a thread of its own, shared by all scrapes that wait when it ends.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::runtime::{CancelHandle, Cutoff, Deadline};
use crate::snapshot::Snapshot;

/// The minimum time for measuring, however short a scrape's timeout is or how little of it another collection left.
/// Healthy mounts need no more, and must not seem hung to other scrapes that share the collection.
pub const MIN_MEASURING_TIME: Duration = Duration::from_millis(100);

/// The minimum time between the starts of two collections, so that clients in a loop cannot keep the node's mounts busy.
/// Waiting for it counts against the scrape's own time.
pub const MIN_COLLECTION_INTERVAL: Duration = Duration::from_millis(100);

/// A scrape that wants a collection in the representation `K`.
#[derive(Debug)]
pub struct ScrapeRequest<K> {
    /// How long measuring may take.
    pub measuring: Duration,
    /// The format and the content coding of the answer.
    pub representation: K,
}

struct WaitingScrape<K, B> {
    request: ScrapeRequest<K>,
    since: Instant,
    reply: oneshot::Sender<B>,
}

impl<K, B> WaitingScrape<K, B> {
    fn deadline(&self, now: Instant) -> Instant {
        let measuring = self.request.measuring;
        (self.since + measuring).max(now + measuring.min(MIN_MEASURING_TIME))
    }
}

/// The collection that is under way.
#[derive(Default)]
struct Running {
    /// The longest time that a scrape gives it; zero for none.
    measuring: Duration,
    /// Ends it for a scrape that has less time.
    cutoff: Cutoff,
}

/// The asking side; any number of clones. `B` is what a representation is encoded to, shared by its scrapes.
#[derive(Clone)]
pub struct SingleFlight<K, B> {
    requests: mpsc::Sender<WaitingScrape<K, B>>,
    running: Arc<Mutex<Running>>,
    thread: Thread,
}

/// The collection panicked.
#[derive(Debug, thiserror::Error)]
#[error("the collection failed; the log tells why")]
pub struct CollectionPanicked;

impl<K: Copy + Eq + Hash + Send + 'static, B: Clone + Send + 'static> SingleFlight<K, B> {
    /// Starts the thread. `collect` is told how long the scrape before took; `encode` runs once for each representation.
    /// `cancel` ends collections before their deadline.
    pub fn start<S: AsRef<Snapshot>>(
        cancel: CancelHandle,
        mut collect: impl FnMut(&Deadline, Option<Duration>) -> S + Send + 'static,
        encode: impl Fn(&S, K) -> B + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, queue) = mpsc::channel();
        let running = Arc::new(Mutex::new(Running::default()));
        let of_thread = Arc::clone(&running);
        let thread = std::thread::Builder::new().name("collect".into());
        let thread = thread.spawn(move || serve(&queue, &of_thread, &cancel, &mut collect, &encode))?;
        Ok(Self { requests, running, thread: thread.thread().clone() })
    }

    /// Requests the encoded result of a collection that ends after this call, and may have begun before.
    pub fn scrape(
        &self,
        request: ScrapeRequest<K>,
    ) -> impl Future<Output = Result<B, CollectionPanicked>> + Send + use<K, B> {
        let (reply, response) = oneshot::channel();
        let (since, measuring) = (Instant::now(), request.measuring);
        // If the thread has ended, the reply is dropped with the request.
        let _ = self.requests.send(WaitingScrape { request, since, reply });
        let running = lock(&self.running);
        if measuring < running.measuring {
            running.cutoff.bring_forward(since + measuring.max(MIN_MEASURING_TIME));
            self.thread.unpark();
        }
        drop(running);
        async { response.await.map_err(|_| CollectionPanicked) }
    }
}

/// Poisoning is ignored: no code holding this lock can panic.
fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve<S: AsRef<Snapshot>, K: Copy + Eq + Hash, B: Clone>(
    queue: &mpsc::Receiver<WaitingScrape<K, B>>,
    running: &Mutex<Running>,
    cancel: &CancelHandle,
    collect: &mut impl FnMut(&Deadline, Option<Duration>) -> S,
    encode: &impl Fn(&S, K) -> B,
) {
    let mut last_total = None;
    let mut earliest_start = Instant::now();
    // When the last collection began, if it was cut short.
    let mut cut = None;
    let mut waiting: Vec<WaitingScrape<K, B>> = Vec::new();
    loop {
        if waiting.is_empty() {
            let Ok(first) = queue.recv() else { return };
            waiting.push(first);
        }
        // Scrapes that come meanwhile share the next collection.
        Deadline::new(earliest_start, cancel).wait_for(|| None::<Infallible>);
        waiting.extend(queue.try_iter());
        // Drop requests whose client has disconnected.
        waiting.retain(|waiting| !waiting.reply.is_closed());
        // Use the longest deadline of all waiting scrapes, so that a short timeout never truncates another's results. A scrape
        // that has less time gets what is measured by then, and the collection goes on for the scrapes that it began for.
        let now = Instant::now();
        let deadline = waiting.iter().map(|waiting| waiting.deadline(now)).max();
        let measuring = waiting.iter().map(|waiting| waiting.request.measuring).max();
        let (Some(deadline), Some(measuring)) = (deadline, measuring) else {
            continue;
        };
        let cutoff = Cutoff::default();
        let hurried = waiting.iter().filter(|waiting| waiting.request.measuring < measuring);
        hurried.for_each(|waiting| cutoff.bring_forward(waiting.deadline(now)));
        *lock(running) = Running { measuring, cutoff: cutoff.clone() };
        let is_for = |began: &Instant| waiting.iter().any(|waiting| waiting.since <= *began);
        let began = cut.take().filter(is_for).unwrap_or(now);
        let deadline = Deadline::new(deadline, cancel).resuming(began, cutoff);
        earliest_start = now + MIN_COLLECTION_INTERVAL;
        let since = waiting[0].since;
        let mut served = std::mem::take(&mut waiting);
        // A panic loses this collection: its scrapes get an error, and the next one is tried.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let collected = collect(&deadline, last_total);
            // Scrapes that came meanwhile share it; later ones start the next collection.
            *lock(running) = Running::default();
            served.extend(queue.try_iter());
            let (is_complete, is_cut, now) = (collected.as_ref().complete, deadline.is_cut(), Instant::now());
            let is_over = |WaitingScrape { request, since, .. }: &WaitingScrape<K, B>| {
                if is_cut { *since + request.measuring <= now } else { request.measuring <= measuring }
            };
            let is_served = |waiting: &WaitingScrape<K, B>| is_complete || is_over(waiting);
            let (served, too_early): (Vec<_>, Vec<_>) = served.into_iter().partition(is_served);
            reply(served, &collected, encode);
            too_early
        }));
        if let Ok(too_early) = outcome {
            last_total = Some(since.elapsed());
            waiting = too_early;
            cut = deadline.is_cut().then_some(began);
        }
    }
}

fn reply<S, K: Copy + Eq + Hash, B: Clone>(
    scrapes: Vec<WaitingScrape<K, B>>,
    collected: &S,
    encode: &impl Fn(&S, K) -> B,
) {
    let mut bodies = HashMap::new();
    for scrape in scrapes {
        let representation = scrape.request.representation;
        let body = bodies.entry(representation).or_insert_with(|| encode(collected, representation));
        // The client may have disconnected.
        let _ = scrape.reply.send(body.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LONG: Duration = Duration::from_mins(10);

    fn request(representation: u8) -> ScrapeRequest<u8> {
        ScrapeRequest { measuring: Duration::ZERO, representation }
    }

    fn complete(complete: bool) -> Arc<Snapshot> {
        Arc::new(Snapshot { complete, ..Snapshot::default() })
    }

    /// Single flight whose encoded result is the representation itself.
    fn start(
        collect: impl FnMut(&Deadline, Option<Duration>) -> Arc<Snapshot> + Send + 'static,
    ) -> SingleFlight<u8, u8> {
        SingleFlight::start(CancelHandle::default(), collect, |_, representation| representation).unwrap()
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_thousand_scrapes_during_a_collection_share_it_and_its_bytes() {
        let (entered, is_collecting) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let collect = move |_: &Deadline, _: Option<Duration>| {
            entered.send(()).unwrap();
            gate.recv().unwrap();
            complete(true)
        };
        let encoded = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&encoded);
        let encode = move |_: &Arc<Snapshot>, representation| {
            count.fetch_add(1, Ordering::SeqCst);
            representation
        };
        let scrapes = SingleFlight::start(CancelHandle::default(), collect, encode).unwrap();
        let first = scrapes.scrape(request(1));
        is_collecting.recv().unwrap();
        let others: Vec<_> =
            (0..1_000).map(|number| scrapes.scrape(request(u8::from(number % 2 == 0)))).collect();
        go_on.send(()).unwrap();
        block_on(async {
            assert_eq!(first.await.unwrap(), 1);
            for (number, scrape) in others.into_iter().enumerate() {
                assert_eq!(scrape.await.unwrap(), u8::from(number % 2 == 0));
            }
        });
        assert_eq!(is_collecting.try_recv(), Err(mpsc::TryRecvError::Empty), "one collection");
        assert_eq!(encoded.load(Ordering::SeqCst), 2, "once per representation");
    }

    // A client in a loop made 58,100 statfs calls in 5 s.
    #[test]
    fn collections_start_an_interval_apart_however_often_somebody_scrapes() {
        let (started, starts) = mpsc::channel();
        let scrapes = start(move |_, _| {
            started.send(Instant::now()).unwrap();
            complete(true)
        });
        for _ in 0..4 {
            block_on(scrapes.scrape(request(1))).unwrap();
        }
        let starts: Vec<Instant> = starts.try_iter().collect();
        assert_eq!(starts.len(), 4);
        for pair in starts.windows(2) {
            assert!(pair[1] - pair[0] >= MIN_COLLECTION_INTERVAL, "{:?}", pair[1] - pair[0]);
        }
    }

    #[test]
    fn waiting_for_the_interval_does_not_move_the_deadline() {
        let (sender, deadlines) = mpsc::channel();
        let scrapes = start(move |deadline, _| {
            sender.send(deadline.instant()).unwrap();
            complete(true)
        });
        block_on(scrapes.scrape(request(1))).unwrap();
        deadlines.recv().unwrap();
        let scrape = scrapes.scrape(ScrapeRequest { measuring: LONG, representation: 1 });
        let requested = Instant::now();
        block_on(scrape).unwrap();
        assert!(deadlines.recv().unwrap() <= requested + LONG);
    }

    #[test]
    fn a_scrape_whose_client_is_gone_prolongs_no_collection() {
        let (entered, is_collecting) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let scrapes = start(move |deadline, _| {
            entered.send(deadline.remaining()).unwrap();
            gate.recv().unwrap();
            complete(false)
        });
        let first = scrapes.scrape(request(1));
        is_collecting.recv().unwrap();
        // Their timeouts are longer than the first scrape's, so they need another collection.
        let second = scrapes.scrape(ScrapeRequest { measuring: LONG / 10, representation: 1 });
        drop(scrapes.scrape(ScrapeRequest { measuring: LONG, representation: 1 }));
        go_on.send(()).unwrap();
        block_on(first).unwrap();
        assert!(is_collecting.recv().unwrap() <= LONG / 10);
        go_on.send(()).unwrap();
        block_on(second).unwrap();
    }

    #[test]
    fn a_panic_loses_one_collection() {
        let mut first = true;
        let scrapes = start(move |_, _| {
            assert!(!std::mem::take(&mut first), "a bug");
            complete(true)
        });
        block_on(async {
            assert!(scrapes.scrape(request(1)).await.is_err());
            assert_eq!(scrapes.scrape(request(1)).await.unwrap(), 1);
        });
    }

    #[test]
    fn a_collection_knows_how_long_the_last_scrape_took() {
        let (sender, times) = mpsc::channel();
        let scrapes = start(move |_, last| {
            sender.send(last).unwrap();
            complete(true)
        });
        block_on(async {
            scrapes.scrape(request(1)).await.unwrap();
            scrapes.scrape(request(1)).await.unwrap();
        });
        assert_eq!(times.recv().unwrap(), None);
        assert!(times.recv().unwrap().is_some());
    }

    #[test]
    fn a_short_timeout_never_truncates_the_result_of_a_longer_one() {
        let (entered, is_collecting) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let collect = move |deadline: &Deadline, _: Option<Duration>| {
            entered.send(deadline.remaining().as_secs()).unwrap();
            // Incomplete, unless it had the longest timeout.
            complete(gate.recv().unwrap())
        };
        let encode = |snapshot: &Arc<Snapshot>, _: u8| snapshot.complete;
        let scrapes = SingleFlight::start(CancelHandle::default(), collect, encode).unwrap();
        let within = |seconds| {
            scrapes.scrape(ScrapeRequest { measuring: Duration::from_secs(seconds), representation: 1 })
        };
        let short = within(1);
        assert!(is_collecting.recv().unwrap() <= 1);
        let (longest, longer) = (within(900), within(500));
        go_on.send(false).unwrap();
        assert!(!block_on(short).unwrap());
        assert!(is_collecting.recv().unwrap() > 400, "not the short timeout");
        go_on.send(true).unwrap();
        block_on(async { assert!(longest.await.unwrap() && longer.await.unwrap()) });
    }

    // One that came during a longer one's collection got none of its figures.
    #[test]
    fn a_scrape_with_less_time_gets_what_is_measured_and_the_other_one_all() {
        let (entered, is_collecting) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let collect = move |deadline: &Deadline, _: Option<Duration>| {
            entered.send(deadline.started()).unwrap();
            let is_measured = deadline.wait_for(|| gate.try_recv().ok()).is_some();
            complete(is_measured)
        };
        let encode = |snapshot: &Arc<Snapshot>, _: u8| snapshot.complete;
        let scrapes = SingleFlight::start(CancelHandle::default(), collect, encode).unwrap();
        let within = |measuring| scrapes.scrape(ScrapeRequest { measuring, representation: 1 });
        let long = within(LONG);
        let began = is_collecting.recv().unwrap();
        for hurried in [Duration::from_millis(150), Duration::ZERO] {
            assert!(!block_on(within(hurried)).unwrap());
            assert_eq!(is_collecting.recv().unwrap(), began, "it goes on");
        }
        go_on.send(()).unwrap();
        // If nobody else comes, the thread waits for the rest of the long time.
        scrapes.thread.unpark();
        assert!(block_on(long).unwrap());
        let next = within(Duration::ZERO);
        assert!(is_collecting.recv().unwrap() > began, "and is another one then");
        assert!(!block_on(next).unwrap());
    }
}
