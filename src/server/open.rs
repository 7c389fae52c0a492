//! The connections that are open, and which of them must make room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use super::paced::Activity;
use super::unsent::Unsent;

/// Answers that are not taken yet may hold so much memory: a large one, of 1,000 volumes without gzip, or thirty with it.
/// Beyond it whoever has not read for longest is cut off.
const MOST_UNSENT_BYTES: usize = 8 << 20;

/// The oldest first.
type Connections = VecDeque<(AbortHandle, Arc<Activity>)>;

#[derive(Default)]
pub(super) struct Open(Mutex<Connections>);

impl Open {
    /// No code that can panic runs under this lock, so poison means nothing.
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, task: AbortHandle, activity: Arc<Activity>) {
        self.lock().push_back((task, activity));
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn forget_ended(&self) {
        self.lock().retain(|(task, _)| !task.is_finished());
    }

    /// Ends the oldest connection that waits for a request, else the one that does not read its answer for longest.
    pub(super) fn make_room(&self) -> bool {
        self.end_oldest_idle() || self.end_slowest_reader(u64::MAX)
    }

    fn end_oldest_idle(&self) -> bool {
        let mut connections = self.lock();
        let oldest = connections.iter().position(|(_, activity)| activity.is_idle());
        end(&mut connections, oldest)
    }

    /// Of those that are sent a body made before this one.
    fn end_slowest_reader(&self, before: u64) -> bool {
        let mut connections = self.lock();
        let sending = connections.iter().enumerate().filter(|(_, (_, activity))| activity.is_sending());
        let slowest = sending.map(|(at, (_, activity))| (activity.body(), at)).min();
        end(&mut connections, slowest.filter(|(body, _)| *body < before).map(|(_, at)| at))
    }

    /// Before one more answer is sent: those that are not taken must not fill the memory. Gives the number of its body.
    pub(super) async fn make_room_for_answer(&self, unsent: &Unsent) -> u64 {
        // Who is sent the same body costs nothing more.
        let body = unsent.made();
        while unsent.bytes() > MOST_UNSENT_BYTES && self.end_slowest_reader(body) {
            // The ended connection lets go of its body.
            tokio::task::yield_now().await;
        }
        body
    }
}

fn end(connections: &mut Connections, which: Option<usize>) -> bool {
    let Some((task, _)) = which.and_then(|at| connections.remove(at)) else {
        return false;
    };
    task.abort();
    true
}
