//! The log: JSON lines on standard error, or lines for people. A thread of its own writes them, so that a log that nobody
//! reads stops nothing. Hand-written, because tracing-appender's writer panics where there is no thread for it, and writes
//! to standard output where the last lines do not get through.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogConfig;

/// Lines that may wait to be written; later ones are lost, and counted.
const MAX_WAITING_LINES: usize = 1024;
/// How long the program's end waits for its last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// Lines that are lost because nobody reads the log.
pub static LOST_LINES: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Logs from now on, until what is returned is dropped.
pub fn start(config: LogConfig) -> io::Result<Flush> {
    let (lines, flush) = start_writing(io::stderr())?;
    let builder = tracing_subscriber::fmt()
        .with_max_level(config.level)
        .with_writer(move || lines.clone())
        .log_internal_errors(false)
        .with_ansi(false)
        .with_target(false);
    // kube logs whole answers of the API server, which this program reports in short.
    let targets =
        Targets::new().with_default(LevelFilter::TRACE).with_target("kube_client", LevelFilter::OFF);
    if config.human {
        builder.finish().with(targets).init();
    } else {
        let json = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
        json.finish().with(targets).init();
    }
    Ok(flush)
}

/// Takes lines, and never waits. Each `write` must be one line.
#[derive(Clone)]
struct Lines(SyncSender<Option<Vec<u8>>>);

/// Waits for the last lines when dropped.
#[must_use]
pub struct Flush {
    lines: Lines,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// Starts the thread that writes lines to `out`, until it is given `None`.
fn start_writing(mut out: impl Write + Send + 'static) -> io::Result<(Lines, Flush)> {
    let (lines, queue) = mpsc::sync_channel::<Option<Vec<u8>>>(MAX_WAITING_LINES);
    let (is_ended, ended) = mpsc::channel();
    std::thread::Builder::new().name("log".into()).spawn(move || {
        let _is_ended = is_ended;
        for line in queue.iter().map_while(|line| line) {
            // Nobody may read the log: that is no reason to end.
            let _ = out.write_all(&line);
        }
    })?;
    let lines = Lines(lines);
    Ok((lines.clone(), Flush { lines, ended }))
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.0.try_send(Some(line.to_vec())) {
            LOST_LINES.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        if self.lines.0.try_send(None).is_ok() {
            let _ = self.ended.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::Sender;

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
        let (mut lines, flush) = start_writing(Gate(Mutex::new(gate), out)).unwrap();
        let before = LOST_LINES.get();
        let all = MAX_WAITING_LINES + 100;
        for number in 0..all {
            lines.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        // One may be with the writer already.
        let lost = usize::try_from(LOST_LINES.get() - before).unwrap();
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
        let (mut lines, flush) = start_writing(Gate(Mutex::new(open), out)).unwrap();
        lines.write_all(b"last\n").unwrap();
        drop(flush);
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"last\n"]);
    }
}
