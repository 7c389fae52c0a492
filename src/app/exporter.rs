//! One scrape after another: collects, and makes series of what was collected.

use std::time::Duration;

use crate::collect::Collector;
use crate::exposition::{Encoder, Series};
use crate::logging;
use crate::panics;
use crate::process::Myself;
use crate::runtime::Deadline;
use crate::snapshot::Snapshot;

/// Collects, and makes series of what was collected.
pub(super) struct Exporter {
    pub(super) collector: Collector,
    encoder: Encoder,
    process: Myself,
}

impl Exporter {
    pub(super) fn new(collector: Collector) -> Self {
        Self { collector, encoder: Encoder::default(), process: Myself::default() }
    }

    pub(super) fn scrape(&mut self, deadline: &Deadline, previous_total_time: Option<Duration>) -> Series {
        let snapshot = self.collector.collect(deadline);
        self.prepare(snapshot, previous_total_time)
    }

    pub(super) fn prepare(
        &mut self,
        mut snapshot: Snapshot,
        previous_total_time: Option<Duration>,
    ) -> Series {
        snapshot.exporter.previous_total_time = previous_total_time;
        snapshot.exporter.process = self.process.status();
        snapshot.exporter.panics = panics::count();
        snapshot.exporter.lost_log_lines = logging::lost_lines();
        self.encoder.prepare(snapshot)
    }
}
