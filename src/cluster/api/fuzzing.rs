//! For `fuzz/`: what a server says of pods.

use bytes::Bytes;

use super::pods::{self, Event};

/// The names of the pods in a list, in its order.
#[must_use]
pub fn listed(bytes: &[u8]) -> Option<Vec<String>> {
    let list = pods::list::parse(bytes).ok()?;
    Some(list.pods.into_iter().map(|pod| pod.pod.name).collect())
}

/// What a watch tells that comes in these pieces, an event each.
#[must_use]
pub fn watched(pieces: &[&[u8]]) -> Vec<String> {
    let mut lines = pods::events::Lines::default();
    let mut told = Vec::new();
    for piece in pieces {
        for line in lines.push(Bytes::copy_from_slice(piece)) {
            told.push(match line.and_then(|line| pods::events::parse(&line)) {
                Ok(told) => match told.event {
                    Event::Changed(pod) => format!("changed {} {:?}", pod.pod.name, told.version),
                    Event::Gone(uid) => format!("gone {uid} {:?}", told.version),
                    Event::Bookmark => format!("bookmark {:?}", told.version),
                    Event::Expired => "expired".into(),
                },
                Err(failure) => failure.to_string(),
            });
        }
    }
    told
}
