//! The kubelet's own `/metrics`: the claims that it exposes itself, and nothing else of the many lines.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read};

use super::polled::{MOST_ENTRIES, Parsed};
use crate::volume::ClaimKey;

/// The family whose claims count.
const SAMPLE: &[u8] = b"kubelet_volume_stats_capacity_bytes{";
/// Longer lines are none of that family.
const LONGEST_LINE: u64 = 4096;

/// Reads an answer.
pub(super) fn parse(answer: impl Read) -> Result<Parsed<HashSet<ClaimKey>>, String> {
    let mut reader = BufReader::new(answer);
    let mut parsed = Parsed { value: HashSet::new(), malformed: 0 };
    let mut is_exposition = false;
    let mut line = Vec::new();
    while read_line(&mut reader, &mut line).map_err(|error| error.to_string())? {
        is_exposition |= line.starts_with(b"# TYPE ");
        if let Some(labels) = line.strip_prefix(SAMPLE) {
            match claim(labels) {
                Some(claim) => drop(parsed.value.insert(claim)),
                None => parsed.malformed += 1,
            }
            if parsed.value.len() > MOST_ENTRIES {
                return Err(format!("more than {MOST_ENTRIES} claims"));
            }
        }
    }
    // A page of something else would mean that the kubelet exposes no claim.
    if is_exposition { Ok(parsed) } else { Err("no metrics".into()) }
}

/// Reads a line, of a long one its beginning; whether there was one.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let length = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
    if length as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
        reader.skip_until(b'\n')?;
    }
    Ok(length > 0)
}

/// The claim that a label set is of, from after its opening brace on.
fn claim(labels: &[u8]) -> Option<ClaimKey> {
    let mut rest = str::from_utf8(labels).ok()?;
    let (mut namespace, mut name) = (None, None);
    while !rest.starts_with('}') {
        let (key, value) = rest.split_once("=\"")?;
        let (value, after) = value_and_rest(value)?;
        match key {
            "namespace" => namespace = Some(value),
            "persistentvolumeclaim" => name = Some(value),
            _ => {}
        }
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(ClaimKey { namespace: namespace?, name: name? })
}

/// A label's value without its escapes, and what follows its closing quote.
fn value_and_rest(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            _ => value.push(c),
        }
    }
    None
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
