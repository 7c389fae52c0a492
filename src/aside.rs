//! Work that may block for ever, on a thread of its own: who wants its outcome waits as long as it can, and asks again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// A thread that answers one question at a time.
#[derive(Debug)]
pub(crate) struct Aside<Q, A> {
    questions: Sender<Q>,
    /// `None` where answering panicked.
    answers: Receiver<Option<A>>,
    busy_since: Option<Instant>,
}

impl<Q: Send + 'static, A: Send + 'static> Aside<Q, A> {
    /// Starts the thread; it ends when this is dropped and it has nothing to do.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub(crate) fn start(name: &str, mut answer: impl FnMut(Q) -> A + Send + 'static) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel();
        let (answered, answers) = mpsc::channel();
        let work = move || {
            for question in asked {
                let outcome = catch_unwind(AssertUnwindSafe(|| answer(question)));
                if answered.send(outcome.ok()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Self { questions, answers, busy_since: None })
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
        self.busy_since?;
        match self.answers.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => None,
            Ok(answer) => {
                self.busy_since = None;
                answer
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.busy_since = None;
                None
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
}
