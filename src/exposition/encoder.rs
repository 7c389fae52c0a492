//! Series to bytes: Prometheus' text format 0.0.4, and `OpenMetrics` 1.0.

use std::fmt;
use std::io::{self, Write};

use prometheus_client::encoding::{prometheus_text, text};

use super::catalogue::{Family, Kind};
use super::negotiate::{Encoding, Format};
use super::series::{Series, Value};
use crate::compression::{self, Chunks};

impl Series {
    /// The exposition, encoded.
    #[must_use]
    pub fn encode(&self, encoding: Encoding) -> Chunks {
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
    let mut registered = RegistryWriter(out);
    match format {
        Format::Text => prometheus_text::encode(&mut registered, &series.registry),
        Format::OpenMetrics => text::encode(&mut registered, &series.registry),
    }
    .map_err(io::Error::other)
}

/// Takes the registry's text.
struct RegistryWriter<'a, W>(&'a mut W);

impl<W: Write> fmt::Write for RegistryWriter<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error)
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
