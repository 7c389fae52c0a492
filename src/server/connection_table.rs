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
    state: State,
    /// Dropped, it tells the connection's task to end.
    _eviction: oneshot::Sender<Infallible>,
}

enum State {
    Idle,
    /// A request has come, and its response is not made yet.
    Waiting,
    /// Not all of a response is with the kernel yet.
    Sending {
        /// When it was handed over.
        since: Instant,
        /// When the kernel last accepted some of it.
        progress_at: Instant,
        /// None for what hyper says of a bad request.
        body: Weak<CountedBody>,
    },
}

impl Row {
    /// How little is lost by closing it: most where it is idle, then where the client does not read its response.
    fn expendability(&self, now: Instant) -> (u8, Duration) {
        match self.state {
            State::Idle => (2, Duration::ZERO),
            State::Sending { progress_at, .. } => (1, now - progress_at),
            State::Waiting => (0, Duration::ZERO),
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
        rows.open.insert(id, Row { peer, state: State::Idle, _eviction: eviction });
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
        let stalled_since = |row: &Row| match &row.state {
            State::Sending { progress_at, body, .. } if !Weak::ptr_eq(body, &except) => Some(*progress_at),
            _ => None,
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
        self.update(|row, _| row.state = State::Waiting);
    }

    /// Its response is handed over.
    pub(super) fn begin_response(&self, body: &SharedBody) {
        let body = body.identity();
        self.update(|row, now| row.state = State::Sending { since: now, progress_at: now, body });
    }

    /// The kernel has accepted some bytes.
    pub(super) fn record_progress(&self) {
        self.update(|row, now| {
            if let State::Sending { progress_at, .. } = &mut row.state {
                *progress_at = now;
            }
        });
    }

    /// The kernel has accepted everything.
    pub(super) fn record_flush(&self) {
        self.update(|row, _| {
            if matches!(row.state, State::Sending { .. }) {
                row.state = State::Idle;
            }
        });
    }

    /// The kernel accepts no more. Since when a response has been sent: also an error response that hyper made.
    pub(super) fn unsent_since(&self) -> Instant {
        let unsent_since = self.update(|row, now| {
            if let State::Sending { since, .. } = row.state {
                return since;
            }
            row.state = State::Sending { since: now, progress_at: now, body: Weak::new() };
            now
        });
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
