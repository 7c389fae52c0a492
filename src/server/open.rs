//! The connections that are open, and which of them must make room.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::paced::Activity;
use super::unsent::Unsent;

/// Answers that are not taken yet may hold so much memory: a large one, of 1,000 volumes without gzip, or thirty with it.
/// Beyond it whoever has taken nothing for longest is cut off, if that is a while ago.
const MUCH_UNSENT_BYTES: usize = 8 << 20;
const A_WHILE: Duration = Duration::from_secs(1);
/// Beyond this, even if it is not: four of those large ones.
const MOST_UNSENT_BYTES: usize = 32 << 20;

/// The oldest first.
type Connections = VecDeque<Connection>;

struct Connection {
    task: AbortHandle,
    activity: Arc<Activity>,
    peer: IpAddr,
}

#[derive(Default)]
pub(super) struct Open(Mutex<Connections>);

impl Open {
    /// No code that can panic runs under this lock, so poison means nothing.
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, task: AbortHandle, activity: Arc<Activity>, peer: IpAddr) {
        self.lock().push_back(Connection { task, activity, peer });
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn forget_ended(&self) {
        self.lock().retain(|connection| !connection.task.is_finished());
    }

    /// Ends a connection that waits for a request, else the one that has taken nothing of its answer for longest.
    pub(super) fn make_room(&self) -> bool {
        self.end_oldest_idle() || self.end_slowest_reader(u64::MAX, Duration::ZERO)
    }

    /// Of the address that has most connections the oldest, so that nobody else pays for a flood: a connection that is
    /// new waits too, until its request has come.
    fn end_oldest_idle(&self) -> bool {
        let mut connections = self.lock();
        let held = held(connections.iter().map(|connection| connection.peer));
        let idle = connections.iter().enumerate().filter(|(_, connection)| connection.activity.is_idle());
        let first = idle.max_by_key(|(at, connection)| (held[&connection.peer], Reverse(*at)));
        let first = first.map(|(at, _)| at);
        end(&mut connections, first)
    }

    /// Of those that are sent a body made before this one, and have taken nothing of it for some time.
    fn end_slowest_reader(&self, before: u64, time: Duration) -> bool {
        let mut connections = self.lock();
        let sending =
            connections.iter().enumerate().filter(|(_, connection)| connection.activity.is_sending());
        let earlier = sending.filter(|(_, connection)| connection.activity.body() < before);
        let stalled = earlier.map(|(at, connection)| (connection.activity.stalled_for(), at));
        let slowest = stalled.filter(|(stalled, _)| *stalled >= time).max();
        end(&mut connections, slowest.map(|(_, at)| at))
    }

    /// Before one more answer is sent: those that are not taken must not fill the memory. Gives the number of its body.
    pub(super) async fn make_room_for_answer(&self, unsent: &Unsent) -> u64 {
        // Who is sent the same body costs nothing more.
        let body = unsent.made();
        let is_much = |most, time| unsent.bytes() > most && self.end_slowest_reader(body, time);
        while is_much(MUCH_UNSENT_BYTES, A_WHILE) || is_much(MOST_UNSENT_BYTES, Duration::ZERO) {
            // The ended connection lets go of its body.
            tokio::task::yield_now().await;
        }
        body
    }
}

/// How many each address holds.
pub(super) fn held(peers: impl Iterator<Item = IpAddr>) -> HashMap<IpAddr, usize> {
    let mut held = HashMap::new();
    peers.for_each(|peer| *held.entry(peer).or_default() += 1);
    held
}

fn end(connections: &mut Connections, which: Option<usize>) -> bool {
    let Some(connection) = which.and_then(|at| connections.remove(at)) else {
        return false;
    };
    connection.task.abort();
    true
}
