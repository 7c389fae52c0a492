//! The kubelet's own `/metrics`: the claims for which it exposes volume stats.

use std::collections::HashSet;

use super::client::{KubeletPage, MAX_ENTRIES, Parsed};
use crate::volume::{ClaimKey, MAX_NAME_BYTES};

/// Every claim that the kubelet exposes has a sample of this family.
const SAMPLE: &[u8] = b"kubelet_volume_stats_capacity_bytes{";

/// The kubelet's own metrics.
pub(super) static PAGE: KubeletPage<HashSet<ClaimKey>> = KubeletPage {
    path: "/metrics",
    rbac_resource: "nodes/metrics",
    accept: "text/plain;version=0.0.4",
    parse,
};

/// Parses an exposition.
pub(super) fn parse(exposition: &[u8]) -> Result<Parsed<HashSet<ClaimKey>>, String> {
    let mut parsed = Parsed { value: HashSet::new(), malformed: 0 };
    let mut is_exposition = false;
    for line in exposition.split(|&byte| byte == b'\n') {
        is_exposition |= line.starts_with(b"# TYPE ");
        let Some(labels) = line.strip_prefix(SAMPLE) else {
            continue;
        };
        match claim(labels) {
            Some(claim) => drop(parsed.value.insert(claim)),
            None => parsed.malformed += 1,
        }
        if parsed.value.len() > MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} claims"));
        }
    }
    // Any other page would mean that the kubelet exposes no claim at all.
    if is_exposition { Ok(parsed) } else { Err("no metrics".into()) }
}

/// The claim that a label set is of, from after its opening brace on.
fn claim(labels: &[u8]) -> Option<ClaimKey> {
    let mut rest = str::from_utf8(labels).ok()?;
    let (mut namespace, mut name) = (None, None);
    while !rest.starts_with('}') {
        let (key, value) = rest.split_once("=\"")?;
        let (value, after) = value.split_at(value_length(value)?);
        match key {
            "namespace" => namespace = Some(value.to_owned()),
            "persistentvolumeclaim" => name = Some(value.to_owned()),
            _ => {}
        }
        let after = after.strip_prefix('"')?;
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    let is_name = |name: &String| name.len() <= MAX_NAME_BYTES;
    Some(ClaimKey { namespace: namespace.filter(is_name)?, name: name.filter(is_name)? })
}

/// Where a label's value ends. Escapes are left in: Kubernetes' names have none.
fn value_length(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Result<(Vec<String>, usize), String> {
        let parsed = parse(text.as_bytes())?;
        let mut claims: Vec<_> =
            parsed.value.iter().map(|claim| format!("{}/{}", claim.namespace, claim.name)).collect();
        claims.sort();
        Ok((claims, parsed.malformed))
    }

    #[test]
    fn claims_are_those_of_one_family() {
        let long = format!("x{{a=\"{}\"}} 1\n", "kubelet_volume_stats_capacity_bytes{".repeat(1000));
        let text = format!(
            "# TYPE kubelet_volume_stats_capacity_bytes gauge\n\
             kubelet_volume_stats_capacity_bytes{{namespace=\"shop\",persistentvolumeclaim=\"data\"}} 1\n\
             kubelet_volume_stats_capacity_bytes{{persistentvolumeclaim=\"b\",x=\"}}\\\"\\\\\\n\",namespace=\"a\",}} 2e9 3\n\
             {long}kubelet_volume_stats_capacity_bytes{{namespace=\"shop\"}} 1\n\
             kubelet_volume_stats_capacity_bytes{{namespace=\"shop\n\
             kubelet_volume_stats_used_bytes{{namespace=\"shop\",persistentvolumeclaim=\"other\"}} 1\n\
             kubelet_volume_stats_capacity_bytes{{namespace=\"shop\",persistentvolumeclaim=\"data\"}} 1"
        );
        assert_eq!(claims(&text), Ok((vec!["a/b".into(), "shop/data".into()], 2)));
    }

    #[test]
    fn a_page_with_claims_without_end_is_not_kept() {
        let claim = |at| {
            format!(
                "kubelet_volume_stats_capacity_bytes{{namespace=\"a\",persistentvolumeclaim=\"{at}\"}} 1\n"
            )
        };
        let page = |count| format!("# TYPE a gauge\n{}", (0..count).map(claim).collect::<String>());
        assert_eq!(claims(&page(10_000)).unwrap().0.len(), 10_000);
        assert_eq!(claims(&page(10_001)), Err("more than 10000 claims".into()));
    }

    #[test]
    fn a_page_of_something_else_is_no_answer() {
        assert_eq!(claims("# TYPE up gauge\nup 1\n"), Ok((vec![], 0)));
        assert_eq!(claims("<html>hello</html>"), Err("no metrics".into()));
        assert_eq!(claims(""), Err("no metrics".into()));
    }
}
