//! What the system says of this process.

use procfs::process::{LimitValue, Process};

use crate::snapshot::ProcessStatus;

/// Reads `/proc/self`; what cannot be read is absent.
#[must_use]
pub fn status() -> ProcessStatus {
    let Ok(process) = Process::myself() else {
        return ProcessStatus::default();
    };
    let stat = process.stat().ok();
    let stat = stat.as_ref();
    let ticks = procfs::ticks_per_second();
    ProcessStatus {
        cpu_seconds: stat.map(|stat| seconds(stat.utime + stat.stime, ticks)),
        open_fds: process.fd_count().ok().map(|count| count as u64),
        max_fds: process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(value) => Some(value),
            LimitValue::Unlimited => None,
        }),
        virtual_bytes: stat.map(|stat| stat.vsize),
        resident_bytes: stat.map(|stat| stat.rss * procfs::page_size()),
        threads: stat.and_then(|stat| stat.num_threads.try_into().ok()),
        start_time: stat.and_then(|stat| start_time(stat.starttime, ticks)),
    }
}

/// Seconds since 1970, from ticks since the system's start.
fn start_time(start_ticks: u64, ticks: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let boot = procfs::boot_time_secs().ok()? as f64;
    Some(boot + seconds(start_ticks, ticks))
}

#[expect(clippy::cast_precision_loss, reason = "a metric's value is a double")]
fn seconds(ticks: u64, per_second: u64) -> f64 {
    ticks as f64 / per_second as f64
}

#[cfg(test)]
mod tests {
    #[test]
    fn everything_is_known_of_this_process() {
        let super::ProcessStatus {
            cpu_seconds,
            open_fds,
            max_fds,
            virtual_bytes,
            resident_bytes,
            threads,
            start_time,
        } = super::status();
        assert!(cpu_seconds.is_some());
        let open_fds = open_fds.unwrap();
        assert!(open_fds >= 3 && max_fds.is_none_or(|max| max >= open_fds));
        assert!(virtual_bytes.unwrap() > resident_bytes.unwrap());
        assert!(resident_bytes.unwrap() > 100_000 && threads.unwrap() >= 1);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age = now - start_time.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
