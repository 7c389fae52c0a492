//! What a kubelet says: its summary, and its own metrics.

#![no_main]

use disk_usage_exporter::fuzzing::{exposed, reported};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const SAMPLE: &[u8] = b"kubelet_volume_stats_capacity_bytes{";

fuzz_target!(|input: &[u8]| {
    // What is skipped may be what a whole reading refuses: no UTF-8, numbers without end.
    if let (Some((volumes, malformed)), Ok(summary)) =
        (reported(input), serde_json::from_slice::<Value>(input))
    {
        let pods = summary["pods"].as_array().map(Vec::as_slice).unwrap_or_default();
        let all = pods.iter().flat_map(|pod| pod["volume"].as_array().into_iter().flatten());
        let of_claims = all.filter(|volume| volume["pvcRef"].is_object()).count();
        // Nothing is lost but what is malformed, and nothing made up. A whole pod may be malformed, with all it has.
        assert!(
            volumes.len() <= of_claims && (malformed > 0 || volumes.len() == of_claims),
            "{volumes:?} of {of_claims}"
        );
        assert!(volumes.is_sorted_by(|a, b| a.measured >= b.measured), "{volumes:?}");
        for volume in volumes {
            assert!(volume.stats.is_none_or(|stats| stats.size() > 0), "{volume:?}");
        }
    }
    if let Some((claims, malformed)) = exposed(input) {
        let samples = input.split(|byte| *byte == b'\n').filter(|line| line.starts_with(SAMPLE)).count();
        assert!(claims.len() + malformed <= samples, "{claims:?} and {malformed} of {samples}");
        assert!(samples == 0 || claims.len() + malformed > 0, "{samples}");
    }
});
