//! Work that may block for ever, on a thread of its own: who wants its outcome waits as long as it can, and asks again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// A thread that answers one question at a time.
#[derive(Debug)]
pub(crate) struct Aside<Q, A> {
    questions: Sender<Q>,
    outcomes: Receiver<Outcome<A>>,
    outcome: Sender<Outcome<A>>,
    busy_since: Option<Instant>,
    /// Nobody waits any more.
    interrupted: bool,
}

#[derive(Debug)]
enum Outcome<A> {
    Answer(A),
    Panic,
    Interrupt,
}

impl<Q: Send + 'static, A: Send + 'static> Aside<Q, A> {
    /// Starts the thread; it ends when this is dropped and it has nothing to do.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub(crate) fn start(name: &str, mut answer: impl FnMut(Q) -> A + Send + 'static) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel();
        let (outcome, outcomes) = mpsc::channel();
        let answered = outcome.clone();
        let work = move || {
            for question in asked {
                let outcome = catch_unwind(AssertUnwindSafe(|| answer(question)));
                if answered.send(outcome.map_or(Outcome::Panic, Outcome::Answer)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Self { questions, outcomes, outcome, busy_since: None, interrupted: false })
    }

    /// What ends waiting for an answer, for good.
    pub(crate) fn interrupt(&self) -> impl Fn() + Send + Sync + 'static {
        let outcome = self.outcome.clone();
        move || {
            // Where nobody is left to wait there is nothing to end.
            let _ = outcome.send(Outcome::Interrupt);
        }
    }

    /// Since when it has been at a question.
    pub(crate) fn busy_since(&self) -> Option<Instant> {
        self.busy_since
    }

    /// Asks what is to be answered next; it must not be busy.
    pub(crate) fn ask(&mut self, question: Q) {
        debug_assert!(self.busy_since.is_none(), "one question at a time");
        if self.questions.send(question).is_ok() {
            self.busy_since = Some(Instant::now());
        }
    }

    /// The answer, if it comes in time. If there is none and it is no longer busy, answering panicked.
    pub(crate) fn answer(&mut self, wait: Duration) -> Option<A> {
        let since = self.busy_since.take()?;
        let deadline = Instant::now() + wait;
        loop {
            let wait = if self.interrupted {
                Duration::ZERO
            } else {
                deadline.saturating_duration_since(Instant::now())
            };
            match self.outcomes.recv_timeout(wait) {
                Ok(Outcome::Answer(answer)) => return Some(answer),
                Ok(Outcome::Panic) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(Outcome::Interrupt) => self.interrupted = true,
                Err(RecvTimeoutError::Timeout) => {
                    self.busy_since = Some(since);
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn who_does_not_wait_long_enough_gets_the_answer_later() {
        let (go_on, gate) = mpsc::channel();
        let mut aside = Aside::start("test", move |number: u32| {
            let _ = gate.recv();
            number * 2
        })
        .unwrap();
        aside.ask(21);
        assert_eq!(aside.answer(Duration::ZERO), None);
        assert!(aside.busy_since().is_some());
        go_on.send(()).unwrap();
        assert_eq!(aside.answer(LONG), Some(42));
        assert_eq!((aside.busy_since(), aside.answer(LONG)), (None, None), "nothing was asked");
    }

    #[test]
    fn a_panic_costs_one_answer() {
        let mut aside = Aside::start("test", |number: u32| 84 / number).unwrap();
        aside.ask(0);
        assert_eq!((aside.answer(LONG), aside.busy_since()), (None, None));
        aside.ask(2);
        assert_eq!(aside.answer(LONG), Some(42));
    }

    #[test]
    fn who_is_interrupted_waits_no_more() {
        let (go_on, gate) = mpsc::channel();
        let mut aside = Aside::start("test", move |number: u32| {
            let _ = gate.recv();
            number * 2
        })
        .unwrap();
        aside.ask(21);
        aside.interrupt()();
        let start = Instant::now();
        assert_eq!((aside.answer(LONG), aside.answer(LONG)), (None, None));
        assert!(aside.busy_since().is_some() && start.elapsed() < LONG);
        go_on.send(()).unwrap();
        while aside.busy_since().is_some() {
            assert!(start.elapsed() < LONG);
            assert!(matches!(aside.answer(LONG), None | Some(42)));
        }
    }
}
