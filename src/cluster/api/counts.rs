//! Requests to the API server by what came of them, for `disk_usage_exporter_kubernetes_requests_total`.

use std::collections::BTreeMap;

use super::client::Question;

/// Requests since the start.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(BTreeMap<(Question, String), u64>);

impl Counts {
    pub(super) fn add(&mut self, question: Question, code: String) {
        *self.0.entry((question, code)).or_default() += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Question, &str, u64)> {
        self.0.iter().map(|((question, code), count)| (question, code.as_str(), *count))
    }
}
