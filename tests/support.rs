//! What tests share.

pub(crate) mod apiserver;
pub(crate) mod browser;
pub(crate) mod cgroup;
pub(crate) mod cluster;
pub(crate) mod document;
pub(crate) mod exporter;
pub(crate) mod exposition;
pub(crate) mod families;
pub(crate) mod fixture;
pub(crate) mod fuse;
pub(crate) mod helm;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod in_process;
pub(crate) mod kubelet;
pub(crate) mod manifest;
pub(crate) mod memory_limit;
pub(crate) mod namespace;
pub(crate) mod objects;
pub(crate) mod pod_security;
pub(crate) mod prometheus;
pub(crate) mod promql;
pub(crate) mod resources;
pub(crate) mod subject;
pub(crate) mod tool;
pub(crate) mod virtual_node;

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long a test waits for an event before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Asks until the answer is as wanted, where nothing tells of news.
pub(crate) fn ask_until<T: Debug>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> T,
    is_wanted: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let answer = ask();
        if is_wanted(&answer) {
            return answer;
        }
        assert!(start.elapsed() < patience, "{what}: {answer:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The full name of the test that this thread runs: libtest gives each a thread of that name.
pub(crate) fn current_test() -> String {
    std::thread::current().name().expect("called on the test's own thread").to_owned()
}

/// Says that a test was not run; under `CI=true` that is a failure.
pub(crate) fn skip(why: &str) {
    let test = current_test();
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} must not be skipped in CI: {why}");
    eprintln!("SKIPPED {test}: {why}");
}

/// A number from the environment: how long a test takes.
pub(crate) fn env_number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}
