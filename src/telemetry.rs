//! The program's own figures: counters, histograms and the standard `process_*`, in a registry that every exposition ends
//! with. What the system does not tell is absent.

use std::fmt;
use std::sync::OnceLock;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use procfs::process::Process;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::{logging, panics};

/// A registry with what concerns the whole program. Each part registers its own metrics too.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register(
        "disk_usage_exporter_panics",
        "Faults of this program that cost one measurement, scrape or connection; the log names the place",
        panics::COUNT.clone(),
    );
    registry.register(
        "disk_usage_exporter_lost_log_lines",
        "Lines of the log that are lost because nobody read it",
        logging::LOST_LINES.clone(),
    );
    registry.register_collector(Box::new(ProcessCollector::default()));
    registry
}

/// Reads the figures of this process at each encoding.
#[derive(Debug, Default)]
struct ProcessCollector {
    /// Read once: `/proc/stat` is long on a machine with many CPUs.
    boot_time: OnceLock<u64>,
}

impl ProcessCollector {
    fn boot_time(&self) -> Option<u64> {
        let boot_time = self.boot_time.get().copied().or_else(|| procfs::boot_time_secs().ok())?;
        Some(*self.boot_time.get_or_init(|| boot_time))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric's value is a double")]
impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Ok(process) = Process::myself() else { return Ok(()) };
        let stat = process.stat().ok();
        let stat = stat.as_ref();
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        if let Some(stat) = stat {
            let cpu = ConstCounter::new(seconds(stat.utime + stat.stime));
            let help = "Seconds of CPU time that this process has used.";
            let unit = Some(&Unit::Seconds);
            cpu.encode(encoder.encode_descriptor("process_cpu", help, unit, cpu.metric_type())?)?;
        }
        let open_fds = process.fd_count().ok().map(|count| count as u64);
        let max_fds = getrlimit(Resource::RLIMIT_NOFILE)
            .ok()
            .map(|(soft, _)| soft)
            .filter(|soft| *soft != RLIM_INFINITY);
        let resident = stat.map(|stat| stat.rss * procfs::page_size());
        let started_at = stat.and_then(|stat| Some(self.boot_time()? as f64 + seconds(stat.starttime)));
        let e = &mut encoder;
        let bytes = Some(&Unit::Bytes);
        gauge(e, "process_open_fds", "File descriptors that this process has open.", None, open_fds)?;
        gauge(e, "process_max_fds", "File descriptors that this process may have open.", None, max_fds)?;
        let virtual_bytes = stat.map(|stat| stat.vsize);
        gauge(e, "process_virtual_memory", "Virtual memory of this process in bytes.", bytes, virtual_bytes)?;
        gauge(e, "process_resident_memory", "Resident memory of this process in bytes.", bytes, resident)?;
        gauge(e, "process_threads", "Threads of this process.", None, stat.map(|stat| stat.num_threads))?;
        let help = "Start of this process in seconds since 1970-01-01 UTC.";
        gauge(e, "process_start_time", help, Some(&Unit::Seconds), started_at)
    }
}

fn gauge<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: Option<V>,
) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    /// A figure of this process, as an exposition shows it.
    fn value(registry: &Registry, name: &str) -> f64 {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }

    #[test]
    fn everything_is_known_of_this_process_and_read_again() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector::default()));
        let value = |name| value(&registry, name);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_resident_memory_bytes") > 100_000.0 && value("process_threads") >= 1.0);
        let age =
            std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        let before = value("process_cpu_seconds_total");
        let start = std::time::Instant::now();
        while value("process_cpu_seconds_total") <= before {
            assert!(start.elapsed().as_secs() < 60, "this loop takes CPU time");
        }
    }
}
