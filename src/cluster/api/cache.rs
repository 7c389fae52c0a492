//! The `PersistentVolume`s that are mounted here and their claims: what is known of them, and what to ask next. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Resource;
use super::failure::Failure;
use super::lookup::{Answer, Lookup, Standing};
use crate::volume::{Claim, ClaimRef, Metadata, PersistentVolume, is_valid_object_name};

/// An object to ask about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    PersistentVolume(String),
    Claim(ClaimRef),
}

/// What came of asking.
#[derive(Debug)]
pub(super) enum Reply {
    PersistentVolume(String, Answer<PersistentVolume>),
    Claim(ClaimRef, Answer<Claim>),
}

impl Reply {
    /// Why nothing is known by it.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::PersistentVolume(_, answer) => answer.failure(),
            Self::Claim(_, answer) => answer.failure(),
        }
    }

    pub(super) fn resource(&self) -> Resource {
        match self {
            Self::PersistentVolume(..) => Resource::PersistentVolumes,
            Self::Claim(..) => Resource::PersistentVolumeClaims,
        }
    }
}

/// Everything about the `PersistentVolume`s of this node.
#[derive(Debug)]
pub(super) struct Cache {
    refresh: Duration,
    volumes: HashMap<String, Lookup<PersistentVolume>>,
    /// By what refers to them: a claim that was made again is another one of the same name.
    claims: HashMap<ClaimRef, Lookup<Claim>>,
    /// What was never answered, by when to ask.
    first: BTreeSet<(Instant, Key)>,
    /// What is to be asked again.
    again: BTreeSet<(Instant, Key)>,
}

/// How the lookups of one kind of object go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Health {
    /// Something was asked and came to something.
    pub(super) tried: bool,
    /// The last request about one of them failed, or was forbidden.
    pub(super) failing: bool,
}

impl Cache {
    pub(super) fn new(refresh: Duration) -> Self {
        Self {
            refresh,
            volumes: HashMap::new(),
            claims: HashMap::new(),
            first: BTreeSet::new(),
            again: BTreeSet::new(),
        }
    }

    /// From now on these names are wanted, and no others; whether what is known changed.
    pub(super) fn want(&mut self, names: &HashSet<&str>, now: Instant) -> bool {
        let before = self.volumes.len();
        self.volumes.retain(|name, _| names.contains(name.as_str()));
        let dropped = before != self.volumes.len();
        for name in names {
            if !self.volumes.contains_key(*name) {
                let mut lookup = Lookup::new(now);
                if !is_valid_object_name(name) {
                    lookup.standing = Standing::Absent;
                    lookup.due = None;
                }
                self.volumes.insert((*name).to_owned(), lookup);
                self.enqueue(Key::PersistentVolume((*name).to_owned()));
            }
        }
        if dropped {
            self.drop_unused();
        }
        dropped
    }

    /// Drops claims that no volume names any more, and what was to be asked of what is gone.
    fn drop_unused(&mut self) {
        let volumes = self.volumes.values().filter_map(|lookup| Some(&lookup.contents.as_ref()?.1));
        let used: HashSet<ClaimRef> = volumes.filter_map(|pv| pv.claim.clone()).collect();
        self.claims.retain(|reference, _| used.contains(reference));
        let (volumes, claims) = (&self.volumes, &self.claims);
        let is_there = |(_, key): &(Instant, Key)| match key {
            Key::PersistentVolume(name) => volumes.contains_key(name),
            Key::Claim(reference) => claims.contains_key(reference),
        };
        self.first.retain(is_there);
        self.again.retain(is_there);
    }

    /// The next object to ask about that was never answered, or otherwise is to be asked again, with the time to do it.
    pub(super) fn next(&self, never_answered: bool) -> Option<(Instant, &Key)> {
        let queue = if never_answered { &self.first } else { &self.again };
        queue.first().map(|(due, key)| (*due, key))
    }

    /// This one is being asked about: it is in no queue any more.
    pub(super) fn asking(&mut self, key: &Key) {
        let due = match key {
            Key::PersistentVolume(name) => self.volumes.get_mut(name).and_then(|lookup| lookup.due.take()),
            Key::Claim(reference) => self.claims.get_mut(reference).and_then(|lookup| lookup.due.take()),
        };
        if let Some(due) = due {
            let entry = (due, key.clone());
            let _ = self.first.remove(&entry) || self.again.remove(&entry);
        }
    }

    /// Asks again about what was being asked when the asking broke off.
    pub(super) fn ask_anew(&mut self, now: Instant) {
        let volumes = self
            .volumes
            .iter_mut()
            .filter(|(name, lookup)| lookup.due.is_none() && is_valid_object_name(name));
        let mut keys: Vec<Key> = Vec::new();
        for (name, lookup) in volumes {
            lookup.due = Some(now);
            keys.push(Key::PersistentVolume(name.clone()));
        }
        for (reference, lookup) in self.claims.iter_mut().filter(|(_, lookup)| lookup.due.is_none()) {
            lookup.due = Some(now);
            keys.push(Key::Claim(reference.clone()));
        }
        for key in keys {
            self.enqueue(key);
        }
    }

    /// Takes a reply; whether anything that is shown changed. One about an object that is no longer wanted is nothing.
    pub(super) fn take(&mut self, reply: Reply, now: Instant) -> bool {
        match reply {
            Reply::PersistentVolume(name, answer) => {
                self.asking(&Key::PersistentVolume(name.clone()));
                let Some(lookup) = self.volumes.get_mut(&name) else { return false };
                let claim_before = claim_of(lookup).cloned();
                let changed = lookup.take(answer, now, self.refresh);
                let claim = claim_of(lookup).cloned();
                self.enqueue(Key::PersistentVolume(name));
                if claim != claim_before {
                    self.want_claim(claim, now);
                    if claim_before.is_some() {
                        self.drop_unused();
                    }
                }
                changed
            }
            Reply::Claim(reference, answer) => {
                self.asking(&Key::Claim(reference.clone()));
                let Some(lookup) = self.claims.get_mut(&reference) else { return false };
                let changed = lookup.take(answer, now, self.refresh);
                self.enqueue(Key::Claim(reference));
                changed
            }
        }
    }

    fn want_claim(&mut self, claim: Option<ClaimRef>, now: Instant) {
        if let Some(reference) = claim.filter(|reference| !self.claims.contains_key(reference)) {
            self.claims.insert(reference.clone(), Lookup::new(now));
            self.enqueue(Key::Claim(reference));
        }
    }

    fn enqueue(&mut self, key: Key) {
        let found = match &key {
            Key::PersistentVolume(name) => self.volumes.get(name).map(|l| (l.due, l.is_answered())),
            Key::Claim(reference) => self.claims.get(reference).map(|l| (l.due, l.is_answered())),
        };
        if let Some((Some(due), answered)) = found {
            if answered { &mut self.again } else { &mut self.first }.insert((due, key));
        }
    }

    /// Whether the volume's `PersistentVolume` and claim are answered.
    pub(super) fn is_answered(&self, name: &str) -> bool {
        let Some(lookup) = self.volumes.get(name) else { return true };
        let claim = claim_of(lookup).and_then(|reference| self.claims.get(reference));
        lookup.is_answered() && claim.is_none_or(Lookup::is_answered)
    }

    /// Adds what is known.
    pub(super) fn describe(&self, metadata: &mut Metadata) {
        for (name, lookup) in &self.volumes {
            match &lookup.contents {
                Some((_, pv)) => drop(metadata.persistent_volumes.insert(name.clone(), pv.clone())),
                None if lookup.standing == Standing::Absent => drop(metadata.absent.insert(name.clone())),
                None => {}
            }
        }
        for (reference, lookup) in &self.claims {
            match &lookup.contents {
                Some((_, claim)) => {
                    metadata.claims.entry(reference.key.clone()).or_default().push(Arc::clone(claim));
                }
                None if lookup.standing == Standing::Absent => {
                    metadata.gone_claims.insert(reference.clone());
                }
                None => {}
            }
        }
    }

    /// When the oldest contents in use were confirmed.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let volumes = self.volumes.values().filter_map(|lookup| lookup.confirmed);
        volumes.chain(self.claims.values().filter_map(|lookup| lookup.confirmed)).min()
    }

    /// How many objects' last requests came to nothing.
    pub(super) fn failing(&self) -> usize {
        let volumes = self.volumes.values().filter(|lookup| lookup.failing);
        volumes.count() + self.claims.values().filter(|lookup| lookup.failing).count()
    }

    pub(super) fn health(&self, resource: Resource) -> Health {
        match resource {
            Resource::PersistentVolumes => health(&self.volumes),
            Resource::PersistentVolumeClaims => health(&self.claims),
            Resource::Pods => Health::default(),
        }
    }
}

fn claim_of(lookup: &Lookup<PersistentVolume>) -> Option<&ClaimRef> {
    lookup.contents.as_ref()?.1.claim.as_ref()
}

fn health<K: Hash + Eq, T: PartialEq>(lookups: &HashMap<K, Lookup<T>>) -> Health {
    let is_bad = |lookup: &Lookup<T>| lookup.failing || lookup.standing == Standing::Forbidden;
    Health {
        tried: lookups.values().any(|lookup| lookup.failing || lookup.is_answered()),
        failing: lookups.values().any(is_bad),
    }
}

#[cfg(test)]
mod tests;
