//! Writes families: Prometheus' text format 0.0.4, and `OpenMetrics` 1.0.

use std::fmt;
use std::io::{self, Write};

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use super::catalogue::Family;
use super::labels::LabelSet;
use super::negotiate::Format;

/// A sample's value. Counts keep all their digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Count(u128),
    Float(f64),
}

impl<T: Into<u128>> From<T> for Value {
    fn from(count: T) -> Self {
        Self::Count(count.into())
    }
}

/// Writes an exposition in pieces; `out` buffers.
pub(super) struct FamilyWriter<'a, W> {
    pub(super) out: &'a mut W,
    pub(super) format: Format,
}

impl<W: Write> FamilyWriter<'_, W> {
    /// Writes a family, if it has any samples.
    pub(super) fn write<'a>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = (&'a LabelSet, Value)>,
    ) -> io::Result<()> {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.write_head(family)?;
        }
        for (labels, value) in samples {
            self.out.write_all(family.name.as_bytes())?;
            self.out.write_all(labels.as_bytes())?;
            match value {
                Value::Count(count) => writeln!(self.out, " {count}")?,
                Value::Float(float) => writeln!(self.out, " {float}")?,
            }
        }
        Ok(())
    }

    fn write_head(&mut self, family: Family) -> io::Result<()> {
        let Family { name, help } = family;
        writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} gauge")?;
        let unit = family.unit().filter(|_| self.format == Format::OpenMetrics);
        unit.map_or(Ok(()), |unit| writeln!(self.out, "# UNIT {name} {unit}"))
    }

    /// Writes what is registered, and the end.
    pub(super) fn finish(mut self, registry: &Registry) -> io::Result<()> {
        match self.format {
            Format::Text => prometheus_text::encode(&mut self, registry),
            Format::OpenMetrics => text::encode(&mut self, registry),
        }
        .map_err(io::Error::other)
    }
}

impl<W: Write> fmt::Write for FamilyWriter<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
