//! What one client, and all clients together, may take of the server.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The 1,000 scrapes that may wait for a collection, and a hundred more for probes and idle connections.
const MAX_CONNECTIONS: usize = 1_100;
/// Served even if the process may open hardly any file: most are closed before it runs out.
const MIN_CONNECTIONS: usize = 64;
/// Descriptors that connections leave to probes, the mount table and requests to other servers.
const RESERVED_DESCRIPTORS: usize = 256;

/// The limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at the same time. Each new one beyond it closes one of the address that has most.
    pub connections: usize,
    /// How long a client may take to send a request's head, and stay idle between requests. No usual scrape interval, at
    /// which the server might close a connection just as its client reuses it.
    pub head_timeout: Duration,
    /// How long a client may take to read a response.
    pub write_timeout: Duration,
    /// How long responses in flight may take when the server stops. The program must be gone within a second, and no
    /// scrape waits for mounts by then.
    pub stop_timeout: Duration,
    /// The memory of responses that are not sent yet: one of 1,000 volumes without gzip, or some thirty with it. Beyond it the
    /// client that has read nothing for longest is disconnected.
    pub unsent_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
            head_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_millis(700),
            unsent_bytes: 8 << 20,
        }
    }
}

impl Limits {
    /// The default limits, with no more connections than this process may have descriptors for. Raises its soft limit of
    /// open files to the hard one first.
    pub fn for_this_process() -> Self {
        let files = Resource::RLIMIT_NOFILE;
        let raised = getrlimit(files).and_then(|(_, hard)| setrlimit(files, hard, hard));
        if let Err(error) = raised {
            tracing::debug!(event = "open_files_limit_unchanged", %error, "cannot raise the limit of open files");
        }
        let (descriptors, _) = getrlimit(files).unwrap_or_default();
        Self { connections: max_connections(descriptors), ..Self::default() }
    }
}

fn max_connections(descriptors: u64) -> usize {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    descriptors.saturating_sub(RESERVED_DESCRIPTORS).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        assert_eq!(max_connections(30), 64);
        assert_eq!(max_connections(1_024), 768);
        assert_eq!(max_connections(4_096), 1_100);
        assert_eq!(max_connections(u64::MAX), 1_100);
    }
}
