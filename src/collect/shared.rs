//! One collection at a time, on a thread of its own, shared by all who ask while it is under way: what was collected,
//! and the bytes written from it.

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

/// Somebody wants a collection, written in the form `K`.
#[derive(Debug)]
pub struct Request<K> {
    /// How long measuring may take.
    pub patience: Duration,
    /// In which form it is wanted.
    pub form: K,
}

/// What was collected.
#[derive(Debug)]
pub struct Collected<S> {
    /// It.
    pub value: S,
    /// The deadline cut nothing off: more patience would have made no difference.
    pub in_time: bool,
}

struct Waiting<K> {
    request: Request<K>,
    since: Instant,
    reply: oneshot::Sender<Bytes>,
}

/// The least time for measuring, however little somebody gives or is left when another collection has ended: healthy
/// mounts need no more, and must not seem to hang to others who share what is collected.
pub const LEAST_PATIENCE: Duration = Duration::from_millis(100);

impl<K> Waiting<K> {
    fn deadline(&self, now: Instant) -> Instant {
        let patience = self.request.patience;
        (self.since + patience).max(now + patience.min(LEAST_PATIENCE))
    }
}

/// The asking side; any number of clones.
pub struct Shared<K> {
    requests: mpsc::Sender<Waiting<K>>,
}

impl<K> Clone for Shared<K> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone() }
    }
}

/// The collection failed by a fault of this program.
#[derive(Debug, thiserror::Error)]
#[error("the collection failed; the log tells why")]
pub struct CollectorGone;

impl<K: Copy + Eq + Hash + Send + 'static> Shared<K> {
    /// Starts the thread that collects and writes.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start<S>(
        mut collect: impl FnMut(Instant, Option<Duration>) -> Collected<S> + Send + 'static,
        write: impl Fn(&S, K) -> Bytes + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, queue) = mpsc::channel();
        let thread = std::thread::Builder::new().name("collect".into());
        thread.spawn(move || serve(&queue, &mut collect, &write))?;
        Ok(Self { requests })
    }

    /// The bytes of a collection that ends after this call, and may have begun before.
    ///
    /// # Errors
    ///
    /// If the collection panicked.
    pub async fn ask(&self, request: Request<K>) -> Result<Bytes, CollectorGone> {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { request, since: Instant::now(), reply };
        self.requests.send(waiting).map_err(|_| CollectorGone)?;
        answer.await.map_err(|_| CollectorGone)
    }
}

fn serve<S, K: Copy + Eq + Hash>(
    queue: &mpsc::Receiver<Waiting<K>>,
    collect: &mut impl FnMut(Instant, Option<Duration>) -> Collected<S>,
    write: &impl Fn(&S, K) -> Bytes,
) {
    let mut last_total = None;
    let mut waiting: Vec<Waiting<K>> = Vec::new();
    loop {
        if waiting.is_empty() {
            let Ok(first) = queue.recv() else { return };
            waiting.push(first);
        }
        waiting.extend(queue.try_iter());
        // Who asked and went away, a probe of a scrape that timed out, needs no collection.
        waiting.retain(|waiting| !waiting.reply.is_closed());
        // The most patient one's, so that nobody misses figures for another's haste.
        let now = Instant::now();
        let deadline = waiting.iter().map(|waiting| waiting.deadline(now)).max();
        let patience = waiting.iter().map(|waiting| waiting.request.patience).max();
        let (Some(deadline), Some(patience)) = (deadline, patience) else {
            continue;
        };
        let since = waiting[0].since;
        let mut asked = std::mem::take(&mut waiting);
        // A panic costs this collection: whoever waits is told, and the next one is tried.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let Collected { value, in_time } = collect(deadline, last_total);
            // Whoever asked meanwhile is answered too; whoever asks from here on starts the next collection.
            asked.extend(queue.try_iter());
            let is_served = |waiting: &Waiting<K>| in_time || waiting.request.patience <= patience;
            let (served, more_patient): (Vec<_>, Vec<_>) = asked.into_iter().partition(is_served);
            answer(served, &value, write);
            more_patient
        }));
        if let Ok(more_patient) = outcome {
            last_total = Some(since.elapsed());
            waiting = more_patient;
        }
    }
}

fn answer<S, K: Copy + Eq + Hash>(asked: Vec<Waiting<K>>, value: &S, write: &impl Fn(&S, K) -> Bytes) {
    let mut bodies = HashMap::new();
    for waiting in asked {
        let form = waiting.request.form;
        let body = bodies.entry(form).or_insert_with(|| write(value, form));
        // Who no longer waits needs no answer.
        let _ = waiting.reply.send(body.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn request(form: u8) -> Request<u8> {
        Request { patience: Duration::ZERO, form }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn who_asks_during_a_collection_shares_it_and_its_bytes() {
        let (entered, is_collecting) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let collections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&collections);
        let collect = move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            entered.send(()).unwrap();
            gate.recv().unwrap();
            Collected { value: (), in_time: true }
        };
        let written = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&written);
        let write = move |(): &(), form| {
            count.fetch_add(1, Ordering::SeqCst);
            Bytes::from(vec![form])
        };
        let shared = Shared::start(collect, write).unwrap();
        block_on(async {
            let mut first = Box::pin(shared.ask(request(1)));
            // The request is sent when the future is first polled.
            assert!(tokio::time::timeout(Duration::ZERO, &mut first).await.is_err());
            is_collecting.recv().unwrap();
            let mut second = Box::pin(shared.ask(request(1)));
            let mut third = Box::pin(shared.ask(request(2)));
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
    fn a_panic_costs_one_collection() {
        let mut first = true;
        let collect = move |_, _| {
            assert!(!std::mem::take(&mut first), "a bug");
            Collected { value: (), in_time: true }
        };
        let shared = Shared::start(collect, |(): &(), form| Bytes::from(vec![form])).unwrap();
        block_on(async {
            assert!(shared.ask(request(1)).await.is_err());
            assert_eq!(shared.ask(request(1)).await.unwrap(), [1][..]);
        });
    }

    #[test]
    fn the_time_of_a_scrape_is_told_to_the_next() {
        let (told, times) = mpsc::channel();
        let collect = move |_, last: Option<Duration>| {
            told.send(last).unwrap();
            Collected { value: (), in_time: true }
        };
        let shared = Shared::start(collect, |(): &(), _: u8| Bytes::new()).unwrap();
        block_on(async {
            shared.ask(request(1)).await.unwrap();
            shared.ask(request(1)).await.unwrap();
        });
        assert_eq!(times.recv().unwrap(), None);
        assert!(times.recv().unwrap().is_some());
    }

    #[test]
    fn who_has_more_time_is_not_answered_with_what_anothers_haste_cut_off() {
        let (entered, is_collecting) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let collect = move |deadline: Instant, _| {
            entered.send(deadline.saturating_duration_since(Instant::now()).as_secs()).unwrap();
            // It is cut off, unless it is the patient one's.
            let in_time = gate.recv().unwrap();
            Collected { value: in_time, in_time }
        };
        let write = |in_time: &bool, _: u8| Bytes::from(vec![u8::from(*in_time)]);
        let shared = Shared::start(collect, write).unwrap();
        let within = |seconds| Request { patience: Duration::from_secs(seconds), form: 1 };
        block_on(async {
            let mut hasty = Box::pin(shared.ask(within(1)));
            assert!(tokio::time::timeout(Duration::ZERO, &mut hasty).await.is_err());
            assert!(is_collecting.recv().unwrap() <= 1);
            let mut patient = Box::pin(shared.ask(within(9)));
            let mut less_so = Box::pin(shared.ask(within(5)));
            assert!(tokio::time::timeout(Duration::ZERO, &mut patient).await.is_err());
            assert!(tokio::time::timeout(Duration::ZERO, &mut less_so).await.is_err());
            go_on.send(false).unwrap();
            assert_eq!(hasty.await.unwrap(), [0][..]);
            assert!(is_collecting.recv().unwrap() > 5, "the most patient one's");
            go_on.send(true).unwrap();
            assert_eq!(patient.await.unwrap(), [1][..]);
            assert_eq!(less_so.await.unwrap(), [1][..]);
        });
    }
}
