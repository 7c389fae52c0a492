//! Open connections, and which of them is closed for another one or for memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::response_memory::{CountedBody, SharedBody};

/// All open connections.
#[derive(Default)]
pub(super) struct ConnectionTable(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    last_id: u64,
    /// By id: the oldest first.
    open: BTreeMap<u64, Row>,
}

struct Row {
    peer: IpAddr,
    /// A request has come, and its response is not made yet.
    is_waiting: bool,
    /// The last response, or what hyper made of a bad request, while it is not all with the kernel yet.
    unsent: Option<Unsent>,
    /// The body of the last response.
    body: Weak<CountedBody>,
    /// Dropped, it tells the connection's task to end.
    _eviction: oneshot::Sender<Infallible>,
}

struct Unsent {
    /// When it was handed over.
    since: Instant,
    /// When the kernel last accepted some of it.
    progress_at: Instant,
}

impl Row {
    /// How little is lost by closing it: most where it is idle, then where the client does not read its response.
    fn expendability(&self, now: Instant) -> (u8, Duration) {
        match &self.unsent {
            Some(unsent) => (1, now - unsent.progress_at),
            None if self.is_waiting => (0, Duration::ZERO),
            None => (2, Duration::ZERO),
        }
    }
}

impl ConnectionTable {
    /// Adds a connection. Its task must end when the receiver is closed.
    pub(super) fn add(self: &Arc<Self>, peer: IpAddr) -> (Connection, oneshot::Receiver<Infallible>) {
        let (eviction, evicted) = oneshot::channel();
        let mut rows = self.lock();
        rows.last_id += 1;
        let id = rows.last_id;
        let row = Row { peer, is_waiting: false, unsent: None, body: Weak::new(), _eviction: eviction };
        rows.open.insert(id, row);
        (Connection { table: Arc::clone(self), id }, evicted)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Closes a connection of the address that has most, so that a flood of them hurts only its sender: the oldest idle
    /// one, else the one whose client has read nothing for longest, else the oldest scrape that waits.
    pub(super) fn evict_from_largest_peer(&self) -> bool {
        let (mut rows, now) = (self.lock(), Instant::now());
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        rows.open.values().for_each(|row| *counts.entry(row.peer).or_default() += 1);
        let rank = |(id, row): &(&u64, &Row)| (counts[&row.peer], row.expendability(now), Reverse(**id));
        let first = rows.open.iter().max_by_key(rank).map(|(id, _)| *id);
        first.and_then(|id| rows.open.remove(&id)).is_some()
    }

    /// Closes the connection whose client has read nothing of its response for longest. Those that are sent this body do
    /// not count: closing them would free nothing.
    pub(super) fn evict_slowest_reader(&self, except: &SharedBody) -> bool {
        let except = except.identity();
        let stalled_since = |row: &Row| {
            let unsent = row.unsent.as_ref().filter(|_| !Weak::ptr_eq(&row.body, &except))?;
            Some(unsent.progress_at)
        };
        let mut rows = self.lock();
        let slowest = rows.open.iter().filter_map(|(id, row)| Some((stalled_since(row)?, *id))).min();
        slowest.and_then(|(_, id)| rows.open.remove(&id)).is_some()
    }

    pub(super) fn evict_all(&self) {
        self.lock().open.clear();
    }

    /// Poisoning is ignored: no code holding this lock can panic.
    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's row, until it is dropped. Does nothing once the connection is evicted.
pub(super) struct Connection {
    table: Arc<ConnectionTable>,
    id: u64,
}

impl Connection {
    /// A request has come.
    pub(super) fn begin_request(&self) {
        self.update(|row, _| row.is_waiting = true);
    }

    /// Its response is handed over.
    pub(super) fn begin_response(&self, body: &SharedBody) {
        self.update(|row, now| {
            row.is_waiting = false;
            row.body = body.identity();
            row.unsent = Some(Unsent { since: now, progress_at: now });
        });
    }

    /// The kernel has accepted some bytes.
    pub(super) fn record_progress(&self) {
        self.update(|row, now| row.unsent.iter_mut().for_each(|unsent| unsent.progress_at = now));
    }

    /// The kernel has accepted everything.
    pub(super) fn record_flush(&self) {
        self.update(|row, _| row.unsent = None);
    }

    /// The kernel accepts no more. Since when something has been unsent: also an error response that hyper made.
    pub(super) fn unsent_since(&self) -> Instant {
        let unsent_since =
            self.update(|row, now| row.unsent.get_or_insert(Unsent { since: now, progress_at: now }).since);
        unsent_since.unwrap_or_else(Instant::now)
    }

    fn update<T>(&self, change: impl FnOnce(&mut Row, Instant) -> T) -> Option<T> {
        self.table.lock().open.get_mut(&self.id).map(|row| change(row, Instant::now()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.table.lock().open.remove(&self.id);
    }
}
