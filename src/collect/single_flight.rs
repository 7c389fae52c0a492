//! Coalesces scrapes: one collection at a time, on a thread of its own, shared by all scrapes that ask during it.

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::runtime::{CancelHandle, Deadline};
use crate::snapshot::Snapshot;

/// The minimum time for measuring, however short a scrape's timeout is or how little of it another collection left.
/// Healthy mounts need no more, and must not seem hung to other scrapes that share the collection.
pub const MIN_MEASURING_TIME: Duration = Duration::from_millis(100);

/// A scrape that wants a collection in the representation `K`.
#[derive(Debug)]
pub struct ScrapeRequest<K> {
    /// How long measuring may take.
    pub measuring: Duration,
    /// The format and the content coding of the answer.
    pub representation: K,
}

struct WaitingScrape<K> {
    request: ScrapeRequest<K>,
    since: Instant,
    reply: oneshot::Sender<Bytes>,
}

impl<K> WaitingScrape<K> {
    fn deadline(&self, now: Instant) -> Instant {
        let measuring = self.request.measuring;
        (self.since + measuring).max(now + measuring.min(MIN_MEASURING_TIME))
    }
}

/// The asking side; any number of clones.
pub struct SingleFlight<K> {
    requests: mpsc::Sender<WaitingScrape<K>>,
}

impl<K> Clone for SingleFlight<K> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone() }
    }
}

/// The collection panicked.
#[derive(Debug, thiserror::Error)]
#[error("the collection failed; the log tells why")]
pub struct CollectionPanicked;

impl<K: Copy + Eq + Hash + Send + 'static> SingleFlight<K> {
    /// Starts the thread. `collect` is told how long the scrape before took; `encode` runs once for each representation.
    /// `cancel` ends collections before their deadline.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn start<S: AsRef<Snapshot>>(
        cancel: CancelHandle,
        mut collect: impl FnMut(&Deadline, Option<Duration>) -> S + Send + 'static,
        encode: impl Fn(&S, K) -> Bytes + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, queue) = mpsc::channel();
        let thread = std::thread::Builder::new().name("collect".into());
        thread.spawn(move || serve(&queue, &cancel, &mut collect, &encode))?;
        Ok(Self { requests })
    }

    /// The bytes of a collection that ends after this call, and may have begun before.
    ///
    /// # Errors
    ///
    /// If the collection panicked.
    pub async fn scrape(&self, request: ScrapeRequest<K>) -> Result<Bytes, CollectionPanicked> {
        let (reply, response) = oneshot::channel();
        let waiting = WaitingScrape { request, since: Instant::now(), reply };
        self.requests.send(waiting).map_err(|_| CollectionPanicked)?;
        response.await.map_err(|_| CollectionPanicked)
    }
}

fn serve<S: AsRef<Snapshot>, K: Copy + Eq + Hash>(
    queue: &mpsc::Receiver<WaitingScrape<K>>,
    cancel: &CancelHandle,
    collect: &mut impl FnMut(&Deadline, Option<Duration>) -> S,
    encode: &impl Fn(&S, K) -> Bytes,
) {
    let mut last_total = None;
    let mut waiting: Vec<WaitingScrape<K>> = Vec::new();
    loop {
        if waiting.is_empty() {
            let Ok(first) = queue.recv() else { return };
            waiting.push(first);
        }
        waiting.extend(queue.try_iter());
        // Drop requests whose client has disconnected.
        waiting.retain(|waiting| !waiting.reply.is_closed());
        // Use the longest deadline of all waiting scrapes, so that a short timeout never truncates another's results.
        let now = Instant::now();
        let deadline = waiting.iter().map(|waiting| waiting.deadline(now)).max();
        let measuring = waiting.iter().map(|waiting| waiting.request.measuring).max();
        let (Some(deadline), Some(measuring)) = (deadline, measuring) else {
            continue;
        };
        let since = waiting[0].since;
        let mut served = std::mem::take(&mut waiting);
        // A panic loses this collection: its scrapes get an error, and the next one is tried.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let collected = collect(&Deadline::new(deadline, cancel), last_total);
            // Scrapes that came meanwhile share it; later ones start the next collection.
            served.extend(queue.try_iter());
            let is_complete = collected.as_ref().complete;
            let is_served =
                |waiting: &WaitingScrape<K>| is_complete || waiting.request.measuring <= measuring;
            let (served, too_early): (Vec<_>, Vec<_>) = served.into_iter().partition(is_served);
            reply(served, &collected, encode);
            too_early
        }));
        if let Ok(too_early) = outcome {
            last_total = Some(since.elapsed());
            waiting = too_early;
        }
    }
}

fn reply<S, K: Copy + Eq + Hash>(
    scrapes: Vec<WaitingScrape<K>>,
    collected: &S,
    encode: &impl Fn(&S, K) -> Bytes,
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn request(representation: u8) -> ScrapeRequest<u8> {
        ScrapeRequest { measuring: Duration::ZERO, representation }
    }

    fn complete(complete: bool) -> Snapshot {
        Snapshot { complete, ..Snapshot::default() }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn scrapes_during_a_collection_share_it_and_its_bytes() {
        let (entered, is_collecting) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let collections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&collections);
        let collect = move |_: &Deadline, _: Option<Duration>| {
            count.fetch_add(1, Ordering::SeqCst);
            entered.send(()).unwrap();
            gate.recv().unwrap();
            complete(true)
        };
        let written = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&written);
        let write = move |_: &Snapshot, form| {
            count.fetch_add(1, Ordering::SeqCst);
            Bytes::from(vec![form])
        };
        let scrapes = SingleFlight::start(CancelHandle::default(), collect, write).unwrap();
        block_on(async {
            let mut first = Box::pin(scrapes.scrape(request(1)));
            // The request is sent when the future is first polled.
            assert!(tokio::time::timeout(Duration::ZERO, &mut first).await.is_err());
            is_collecting.recv().unwrap();
            let mut second = Box::pin(scrapes.scrape(request(1)));
            let mut third = Box::pin(scrapes.scrape(request(2)));
            assert!(tokio::time::timeout(Duration::ZERO, &mut second).await.is_err());
            assert!(tokio::time::timeout(Duration::ZERO, &mut third).await.is_err());
            go_on.send(()).unwrap();
            assert_eq!(first.await.unwrap(), [1][..]);
            assert_eq!(second.await.unwrap(), [1][..]);
            assert_eq!(third.await.unwrap(), [2][..]);
        });
        assert_eq!(collections.load(Ordering::SeqCst), 1);
        assert_eq!(written.load(Ordering::SeqCst), 2, "once a form");
    }

    #[test]
    fn a_panic_loses_one_collection() {
        let mut first = true;
        let collect = move |_: &Deadline, _: Option<Duration>| {
            assert!(!std::mem::take(&mut first), "a bug");
            complete(true)
        };
        let scrapes = SingleFlight::start(CancelHandle::default(), collect, |_: &Snapshot, form| {
            Bytes::from(vec![form])
        })
        .unwrap();
        block_on(async {
            assert!(scrapes.scrape(request(1)).await.is_err());
            assert_eq!(scrapes.scrape(request(1)).await.unwrap(), [1][..]);
        });
    }

    #[test]
    fn a_collection_knows_how_long_the_last_scrape_took() {
        let (told, times) = mpsc::channel();
        let collect = move |_: &Deadline, last: Option<Duration>| {
            told.send(last).unwrap();
            complete(true)
        };
        let scrapes =
            SingleFlight::start(CancelHandle::default(), collect, |_: &Snapshot, _: u8| Bytes::new())
                .unwrap();
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
            let in_time = gate.recv().unwrap();
            complete(in_time)
        };
        let write = |snapshot: &Snapshot, _: u8| Bytes::from(vec![u8::from(snapshot.complete)]);
        let scrapes = SingleFlight::start(CancelHandle::default(), collect, write).unwrap();
        let within = |seconds| ScrapeRequest { measuring: Duration::from_secs(seconds), representation: 1 };
        block_on(async {
            let mut short = Box::pin(scrapes.scrape(within(1)));
            assert!(tokio::time::timeout(Duration::ZERO, &mut short).await.is_err());
            assert!(is_collecting.recv().unwrap() <= 1);
            let mut longest = Box::pin(scrapes.scrape(within(9)));
            let mut longer = Box::pin(scrapes.scrape(within(5)));
            assert!(tokio::time::timeout(Duration::ZERO, &mut longest).await.is_err());
            assert!(tokio::time::timeout(Duration::ZERO, &mut longer).await.is_err());
            go_on.send(false).unwrap();
            assert_eq!(short.await.unwrap(), [0][..]);
            assert!(is_collecting.recv().unwrap() > 5, "the longest timeout");
            go_on.send(true).unwrap();
            assert_eq!(longest.await.unwrap(), [1][..]);
            assert_eq!(longer.await.unwrap(), [1][..]);
        });
    }
}
