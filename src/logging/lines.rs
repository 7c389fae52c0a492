//! Lines for standard error, written by a thread of their own: a log that nobody reads must stop nothing.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be read; later ones are lost, and counted.
const MOST_WAITING: usize = 1024;
/// How long the program's end waits for its last lines to be read.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// Lines lost so far.
pub(super) static LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

enum Item {
    Line(Vec<u8>),
    /// All before it is written.
    End(Sender<()>),
}

/// Takes lines, and never waits. Each `write` must be one line.
#[derive(Clone)]
pub(super) struct Lines(SyncSender<Item>);

/// Waits for the last lines when dropped.
#[must_use]
pub struct Flush(SyncSender<Item>);

impl Lines {
    /// Starts the thread that writes them to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let (lines, queue) = mpsc::sync_channel(MOST_WAITING);
        std::thread::Builder::new().name("log".into()).spawn(move || write(&queue, out))?;
        Ok((Self(lines.clone()), Flush(lines)))
    }
}

fn write(queue: &Receiver<Item>, mut out: impl Write) {
    for item in queue {
        // Nobody may read the log: that is no reason to end.
        match item {
            Item::Line(line) => drop(out.write_all(&line)),
            Item::End(done) => drop(done.send(())),
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.0.try_send(Item::Line(line.to_vec())) {
            LOST.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, is_done) = mpsc::channel();
        if self.0.try_send(Item::End(done)).is_ok() {
            let _ = is_done.recv_timeout(LAST_WAIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Writes what it may: one line for each go-ahead.
    struct Gate(Mutex<Receiver<()>>, Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.lock().unwrap().recv();
            let _ = self.1.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_loses_lines_and_stops_nobody() {
        let (go_on, gate) = mpsc::channel();
        let (out, written) = mpsc::channel();
        let (mut lines, flush) = Lines::start(Gate(Mutex::new(gate), out)).unwrap();
        let before = LOST.get();
        let all = MOST_WAITING + 100;
        for number in 0..all {
            lines.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        // One may be with the writer already.
        let lost = usize::try_from(LOST.get() - before).unwrap();
        assert!([99, 100].contains(&lost), "{lost}");
        drop(go_on);
        let kept: Vec<_> = written.iter().take(all - lost).collect();
        let expected: Vec<_> = (0..all - lost).map(|number| format!("{number}\n").into_bytes()).collect();
        assert_eq!(kept, expected);
        drop(flush);
    }

    #[test]
    fn the_last_lines_are_waited_for() {
        let (out, written) = mpsc::channel();
        let (_, open) = mpsc::channel();
        let (mut lines, flush) = Lines::start(Gate(Mutex::new(open), out)).unwrap();
        lines.write_all(b"last\n").unwrap();
        drop(flush);
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"last\n"]);
    }
}
