//! What the targets in `fuzz/` reach besides the public parts; only there in builds with `--cfg fuzzing`.

pub use crate::collect::fuzzing::snapshot;
pub use crate::kubelet::fuzzing::{exposed, reported};
pub use crate::node::fuzzing::{Found, VolData, discover, mountpoints, vol_data};
pub use crate::server::fuzzing::serve_connection;
