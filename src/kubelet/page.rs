//! A page of the kubelet, and how it is parsed.

/// Entries of one page; no node has that many volumes. A longer page is an error.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// A page of the kubelet that is requested.
#[derive(Debug)]
pub(super) struct KubeletPage<T> {
    pub(super) path: &'static str,
    /// The RBAC resource on which the service account needs `get`.
    pub(super) rbac_resource: &'static str,
    pub(super) accept: &'static str,
    pub(super) parse: fn(&[u8]) -> Result<Parsed<T>, String>,
}

/// A parsed page.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    pub(super) value: T,
    /// Entries that could not be parsed.
    pub(super) malformed: usize,
}
