//! How long the program waits, and which thread may block on what.
//!
//! | thread | may block on | never |
//! | --- | --- | --- |
//! | `serve` runtime (main thread) | nothing | parses objects, touches a file of the node |
//! | `clients` runtime | parsing one object | touches a volume |
//! | `collect` | its [`Deadline`] | waits for the API server |
//! | probes | a mount, indefinitely | holds a lock meanwhile |
//! | `host-files` ([`BlockingWorker`]) | a file of the node, indefinitely | |

pub(crate) mod backoff;
mod blocking_worker;
mod clients;
mod deadline;
mod wall_clock;

pub use blocking_worker::{BlockingWorker, Job, JobLost, SingleJob};
pub use clients::{Clients, catch_panic};
pub use deadline::{CancelHandle, Cutoff, Deadline};
pub use wall_clock::age;
