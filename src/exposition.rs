//! Snapshots as bytes for Prometheus, in its text format 0.0.4 or in `OpenMetrics` 1.0.

mod catalogue;
mod info_metrics;
mod label_cache;
mod labels;
mod negotiate;
mod series;

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

pub use catalogue::{FAMILIES, Family};
pub use negotiate::{Encoding, Format, negotiate};
pub use series::Series;

use crate::compression;
use crate::snapshot::Snapshot;
use crate::volume::Selections;
use catalogue::Value;
use label_cache::LabelCache;

/// Makes series of snapshots; keeps the label sets that the next snapshot can use, and counts dropped series.
#[derive(Debug)]
pub struct Encoder {
    selections: Selections,
    labels: Arc<LabelCache>,
    dropped_series: Counter,
    registry: Arc<Registry>,
}

impl Encoder {
    /// An encoder of expositions with these labels of objects, which end with what is registered.
    pub fn new(selections: Selections, mut registry: Registry) -> Self {
        let dropped_series = Counter::default();
        let help = "Series left out because one with the same labels was already written";
        registry.register("disk_usage_exporter_dropped_series", help, dropped_series.clone());
        Self { selections, labels: Arc::default(), dropped_series, registry: Arc::new(registry) }
    }

    /// The series of a snapshot, for all encodings.
    pub fn prepare(&mut self, mut snapshot: Snapshot) -> Series {
        // Two samples with the same labels would make Prometheus drop data.
        let all = snapshot.volumes.len();
        snapshot.volumes.dedup_by(|later, first| later.volume.pv_name == first.volume.pv_name);
        if !self.labels.is_current(&snapshot.volumes) {
            let updated = self.labels.update(&snapshot.volumes, &self.selections);
            log_dropped_labels(&self.labels, &updated);
            self.labels = Arc::new(updated);
        }
        let labels = Arc::clone(&self.labels);
        let mounts = labels.0.iter().map(|labels| labels.volume.mounts.len() - labels.mounts.len());
        let duplicates = all - snapshot.volumes.len() + mounts.sum::<usize>();
        self.dropped_series.inc_by(duplicates as u64);
        let claim_labels = snapshot.claims.iter().map(info_metrics::kubelet_labels).collect();
        Series { snapshot, labels, claim_labels, registry: Arc::clone(&self.registry) }
    }
}

/// Logs the volumes of which labels are left out, each once.
fn log_dropped_labels(before: &LabelCache, now: &LabelCache) {
    let before: HashSet<&str> = before.dropped().map(|(pv_name, _)| pv_name).collect();
    for (pv_name, dropped) in now.dropped().filter(|(pv_name, _)| !before.contains(pv_name)) {
        tracing::warn!(
            event = "labels_dropped",
            pv_name,
            dropped,
            "left out labels of the volume that are too many or too large: choose fewer by --pvc-labels, \
             --pv-labels and --volume-labels"
        );
    }
}

impl Series {
    /// The exposition, encoded.
    pub fn encode(&self, Encoding { format, gzip }: Encoding) -> Vec<Bytes> {
        compression::encode(gzip, |out| self.write(out, format))
    }

    fn write(&self, out: &mut impl Write, format: Format) -> io::Result<()> {
        for family in FAMILIES {
            let mut samples = (family.samples)(self).peekable();
            if samples.peek().is_some() {
                write_head(out, family, format)?;
            }
            for (labels, value) in samples {
                out.write_all(family.name.as_bytes())?;
                out.write_all(labels.as_bytes())?;
                match value {
                    Value::Count(count) => writeln!(out, " {count}")?,
                    Value::Float(float) => writeln!(out, " {float}")?,
                }
            }
        }
        let mut registered = String::new();
        match format {
            Format::Text => prometheus_text::encode(&mut registered, &self.registry),
            Format::OpenMetrics => text::encode(&mut registered, &self.registry),
        }
        .map_err(io::Error::other)?;
        out.write_all(registered.as_bytes())
    }
}

fn write_head(out: &mut impl Write, family: &Family, format: Format) -> io::Result<()> {
    let Family { name, help, .. } = family;
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge")?;
    match family.unit() {
        Some(unit) if format == Format::OpenMetrics => writeln!(out, "# UNIT {name} {unit}"),
        _ => Ok(()),
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new(Selections::default(), Registry::default())
    }
}

#[cfg(test)]
mod tests;
