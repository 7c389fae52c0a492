//! The labels of a volume, and the encoding of label sets.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::volume::{Labels, Volume};

/// Reserved label names: an object's label of that name gets a suffix.
const FIXED: [&str; 7] = [
    "pv_name",
    "pvc_name",
    "pvc_namespace",
    "volume_name",
    "volume_label_source",
    "volume_type",
    "volume_instance",
];

/// An encoded label set: `{a="b",c="d"}`, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct LabelSet(Vec<u8>);

impl LabelSet {
    pub(super) fn new<'a>(labels: impl IntoIterator<Item = (&'a str, Cow<'a, str>)>) -> Self {
        let mut set = Self::default();
        for (name, value) in labels {
            set.push(name, &value);
        }
        set.close()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn push(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"=\"");
        for byte in value.bytes() {
            match byte {
                b'\\' => self.0.extend_from_slice(b"\\\\"),
                b'"' => self.0.extend_from_slice(b"\\\""),
                b'\n' => self.0.extend_from_slice(b"\\n"),
                _ => self.0.push(byte),
            }
        }
        self.0.push(b'"');
    }

    fn close(mut self) -> Self {
        if !self.0.is_empty() {
            self.0.push(b'}');
        }
        self
    }
}

/// A path or device name as a label's value: bytes that are not UTF-8 become U+FFFD.
pub(super) fn lossy(text: &OsStr) -> Cow<'_, str> {
    String::from_utf8_lossy(text.as_bytes())
}

/// The labels of the series of one volume.
pub(super) fn volume_labels(volume: &Volume) -> LabelSet {
    let mut set = LabelSet::default();
    let pv_name = volume.pv_name.as_str();
    set.push("pv_name", pv_name);
    let pv = volume.pv.as_deref();
    if let Some(pv) = pv {
        push_prefixed(&mut set, "pv_", &pv.labels);
    }
    let claim_key = volume.claim.key.as_deref();
    if let Some(key) = claim_key {
        set.push("pvc_name", &key.name);
        set.push("pvc_namespace", &key.namespace);
    }
    let claim = volume.claim.object();
    if let Some(claim) = claim {
        push_prefixed(&mut set, "pvc_", &claim.labels);
    }
    set.push("volume_name", claim_key.map_or(pv_name, |key| &key.name));
    let of_claim = claim.map(|claim| ("pvc", &claim.labels)).filter(|(_, labels)| !labels.is_empty());
    let labels = of_claim.or(pv.map(|pv| ("pv", &pv.labels)));
    if let Some((label_source, _)) = labels {
        set.push("volume_label_source", label_source);
    }
    if let Some(source) = volume.source() {
        set.push("volume_type", &source.kind);
        if let Some(instance) = &source.instance {
            set.push("volume_instance", instance);
        }
    }
    if let Some((_, labels)) = labels {
        push_prefixed(&mut set, "volume_", labels);
    }
    set.close()
}

/// Adds an object's labels. Those that would get one name, or a name that is taken, each get a number instead. Names of
/// different prefixes never meet.
fn push_prefixed(set: &mut LabelSet, prefix: &str, labels: &Labels) {
    let names: Vec<String> = labels.keys().map(|key| prefixed(prefix, key)).collect();
    let mut count: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    for name in &names {
        *count.entry(name).or_default() += 1;
    }
    let mut last_number: HashMap<&str, usize> = HashMap::new();
    for (name, value) in names.iter().zip(labels.values()) {
        if count[name.as_str()] == 1 && !FIXED.contains(&name.as_str()) {
            set.push(name, value);
            continue;
        }
        let number = last_number.entry(name).or_default();
        let free = loop {
            *number += 1;
            let numbered = format!("{name}_conflict{number}");
            if !count.contains_key(numbered.as_str()) {
                break numbered;
            }
        };
        set.push(&free, value);
    }
}

/// An object's label as a metric's.
fn prefixed(prefix: &str, key: &str) -> String {
    let known = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    prefix.chars().chain(key.chars().map(known)).collect()
}

#[cfg(test)]
mod tests;
