//! For `fuzz/`: the kubelet's pages, as bytes.

use std::collections::HashSet;

use super::{exposed_claims, summary};
use crate::volume::{ClaimKey, ReportedVolume};

/// The volumes of a summary, and how many of its entries are malformed.
pub fn reported(bytes: &[u8]) -> Option<(Vec<ReportedVolume>, usize)> {
    let parsed = summary::parse(bytes).ok()?;
    Some((parsed.value, parsed.malformed))
}

/// The claims in a page of metrics, and how many of its lines are malformed.
pub fn exposed(bytes: &[u8]) -> Option<(HashSet<ClaimKey>, usize)> {
    let parsed = exposed_claims::parse(bytes).ok()?;
    Some((parsed.value, parsed.malformed))
}
