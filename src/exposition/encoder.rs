//! Series to bytes: Prometheus' text format 0.0.4, and `OpenMetrics` 1.0.

use std::io::{self, Write};

use bytes::Bytes;

use super::catalogue::{Family, Kind};
use super::format::{Encoding, Format};
use super::series::{Series, Value};
use crate::compression;

impl Series {
    /// The exposition, encoded.
    #[must_use]
    pub fn encode(&self, encoding: Encoding) -> Vec<Bytes> {
        compression::encode(encoding.gzip, |out| write(self, encoding.format, out))
    }
}

/// Writes an exposition in pieces; the writer buffers.
fn write(series: &Series, format: Format, out: &mut impl Write) -> io::Result<()> {
    for (family, samples) in series.families() {
        write_head(&family, format, out)?;
        for (labels, value) in samples {
            out.write_all(family.name.as_bytes())?;
            out.write_all(labels.as_bytes())?;
            match value {
                Value::Count(count) => writeln!(out, " {count}")?,
                Value::Float(float) => writeln!(out, " {float}")?,
            }
        }
    }
    match format {
        Format::Text => Ok(()),
        Format::OpenMetrics => out.write_all(b"# EOF\n"),
    }
}

fn write_head(family: &Family, format: Format, out: &mut impl Write) -> io::Result<()> {
    let Family { help, kind, .. } = family;
    let name = match format {
        Format::Text => family.name,
        Format::OpenMetrics => family.openmetrics_name(),
    };
    writeln!(out, "# HELP {name} {help}")?;
    writeln!(out, "# TYPE {name} {}", Kind::as_str(*kind))?;
    match (format, family.unit()) {
        (Format::OpenMetrics, Some(unit)) => writeln!(out, "# UNIT {name} {unit}"),
        _ => Ok(()),
    }
}
