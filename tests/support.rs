//! What tests share.

pub(crate) mod exporter;
pub(crate) mod exposition;
pub(crate) mod fixture;
pub(crate) mod fuse;
pub(crate) mod http;
pub(crate) mod namespace;
pub(crate) mod subject;
pub(crate) mod tool;

/// How long a test waits for an event before it fails.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

/// Says that a test was not run; under `CI=true` that is a failure.
pub(crate) fn skip(test: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} must not be skipped in CI: {why}");
    eprintln!("SKIPPED {test}: {why}");
}
