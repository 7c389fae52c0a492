//! Scrapes that wait for their answer, and which of them must make room.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::open::held;

/// Scrapes at one time: half of the connections, so that there is always one for a probe.
const MOST_SCRAPES: usize = 32;

/// The scrapes that wait, the oldest first.
#[derive(Default)]
pub(super) struct Slots(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    numbers: u64,
}

struct Waiting {
    number: u64,
    peer: IpAddr,
    /// Dropped, it tells the scrape to end.
    _place: oneshot::Sender<()>,
}

/// One scrape's place, until it is dropped.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    number: u64,
    place: oneshot::Receiver<()>,
}

impl Slots {
    /// A place for a scrape. If there is none, the address that holds most of them gives its oldest, unless it is this
    /// one's own: nobody else pays for a flood.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Slot<'_>> {
        let mut state = self.lock();
        if state.waiting.len() >= MOST_SCRAPES && !state.make_room(peer) {
            return None;
        }
        state.numbers += 1;
        let number = state.numbers;
        let (kept, place) = oneshot::channel();
        state.waiting.push(Waiting { number, peer, _place: kept });
        Some(Slot { slots: self, number, place })
    }

    /// No code that can panic runs under this lock, so poison means nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn make_room(&mut self, newcomer: IpAddr) -> bool {
        let held = held(self.waiting.iter().map(|waiting| waiting.peer));
        let own = held.get(&newcomer).copied().unwrap_or_default();
        let Some((most, _)) =
            held.into_iter().filter(|(_, count)| *count > own + 1).max_by_key(|(_, count)| *count)
        else {
            return false;
        };
        let oldest = self.waiting.iter().position(|waiting| waiting.peer == most);
        oldest.map(|at| self.waiting.remove(at)).is_some()
    }
}

impl Slot<'_> {
    /// Ends when the place is wanted for another one.
    pub(super) async fn taken(&mut self) {
        let _ = (&mut self.place).await;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.lock().waiting.retain(|waiting| waiting.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn the_address_that_holds_most_makes_room() {
        let slots = Slots::default();
        let mut flood: Vec<_> = (0..MOST_SCRAPES).map(|_| slots.take(peer(1)).unwrap()).collect();
        assert!(slots.take(peer(1)).is_none(), "it has all of them");
        let first = slots.take(peer(2)).unwrap();
        let second = slots.take(peer(2)).unwrap();
        let are_taken: Vec<bool> = flood
            .iter_mut()
            .map(|slot| slot.place.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed))
            .collect();
        assert_eq!(are_taken.iter().filter(|taken| **taken).count(), 2);
        assert!(are_taken[0] && are_taken[1], "the oldest");
        drop((first, second));
        assert!(slots.take(peer(1)).is_some(), "there is room again");
    }
}
