//! A mount that is watched, and what is known of it from earlier rounds.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use super::super::statvfs::Target;
use crate::volume::{ProbeError, ProbeResult, Reason};

/// All of it is written under the lock of the state or by the one thread that makes rounds.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) target: Target,
    /// A worker waits for it, in this round or since an earlier one.
    is_asked: AtomicBool,
    standing: AtomicU8,
    /// Rounds since it was asked last that left it out.
    skipped: AtomicU32,
}

/// What the last asking came to, in the order in which mounts are asked.
const ANSWERED: u8 = 0;
const NEW: u8 = 1;
const LATE: u8 = 2;

impl Subject {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            is_asked: AtomicBool::new(false),
            standing: AtomicU8::new(NEW),
            skipped: AtomicU32::new(0),
        }
    }

    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    pub(super) fn set_asked(&self, is_asked: bool) {
        self.is_asked.store(is_asked, Ordering::Relaxed);
    }

    /// It has answered the last time it was asked.
    pub(super) fn is_proven(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == ANSWERED
    }

    /// Who is asked first: those that answered, then new ones, then the rest; within these, whoever was left out most
    /// often.
    pub(super) fn rank(&self) -> (u8, Reverse<u32>) {
        (self.standing.load(Ordering::Relaxed), Reverse(self.skipped.load(Ordering::Relaxed)))
    }

    /// Takes a round's outcome.
    pub(super) fn remember(&self, answer: &ProbeResult) {
        let standing = match answer {
            Err(ProbeError { reason: Reason::Skipped, .. }) => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            // With an error number it is an answer: of a client that itself waits no longer.
            Err(ProbeError { reason: Reason::Timeout, errno: None }) => LATE,
            _ => ANSWERED,
        };
        self.standing.store(standing, Ordering::Relaxed);
        self.skipped.store(0, Ordering::Relaxed);
    }
}
