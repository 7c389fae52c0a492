use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use crate::support::apiserver::{CLAIMS, Fault, PODS, PVS, Server};
use crate::support::objects::{claim, claim_of, pod, pv, pv_names};
use crate::support::virtual_node::{MAX_REFRESH, MINUTE, REFRESH, SECOND, VirtualNode, of_version, pass};

const VOLUMES: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    /// Another pod mounts a volume, or all unmount it.
    Mount(usize),
    Unmount(usize),
    /// The labels of a volume and its claim change.
    Relabel(usize),
    /// A volume and its claim are deleted, and made again with the same name, for another claim.
    Reuse(usize),
    Delete(usize),
    /// From now on, requests for a resource have this fault.
    Fail(&'static str, Fault),
    Recover,
    EndWatches,
    Bookmark,
    Pass(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let statuses = [403, 404, 500, 503].map(Fault::Status);
    let later = Fault::RetryAfter(429, "7");
    let others = [Fault::Close, Fault::Hang, Fault::Half, later, Fault::Body("{}".into()), Fault::NotInCache];
    let fault = select([&statuses[..], &others].concat());
    let times = vec![SECOND / 100, SECOND, 10 * SECOND, MINUTE, 11 * MINUTE, REFRESH];
    prop_oneof![
        4 => (0..VOLUMES).prop_map(Step::Mount),
        1 => (0..VOLUMES).prop_map(Step::Unmount),
        2 => (0..VOLUMES).prop_map(Step::Relabel),
        1 => (0..VOLUMES).prop_map(Step::Reuse),
        1 => (0..VOLUMES).prop_map(Step::Delete),
        2 => (select(vec![PODS, PVS, CLAIMS]), fault).prop_map(|(resource, fault)| Step::Fail(resource, fault)),
        1 => Just(Step::Recover),
        1 => Just(Step::EndWatches),
        1 => Just(Step::Bookmark),
        6 => select(times).prop_map(Step::Pass),
    ]
}

/// A volume of the server.
#[derive(Debug, Clone, Copy, Default)]
struct Volume {
    /// Numbers of when it was made and when it got its labels.
    made: usize,
    labelled: usize,
    exists: bool,
}

impl Volume {
    fn tier(self) -> String {
        format!("{}.{}", self.made, self.labelled)
    }
}

/// The state of the server, and what the node mounts.
struct Model {
    node: VirtualNode,
    names: Vec<&'static str>,
    volumes: [Volume; VOLUMES],
    /// Volumes and the pods that mount them.
    mounted: BTreeSet<(usize, String)>,
    /// The labels that were shown last since each was mounted.
    shown: BTreeMap<(usize, String), String>,
    last_number: usize,
}

impl Model {
    fn new() -> Self {
        let node = VirtualNode::start(&Server::new(), &[]);
        let (volumes, mounted, shown) = ([Volume::default(); VOLUMES], BTreeSet::new(), BTreeMap::new());
        let mut model = Self { node, names: pv_names(VOLUMES), volumes, mounted, shown, last_number: 0 };
        (0..VOLUMES).for_each(|volume| model.make(volume));
        model
    }

    fn number(&mut self) -> usize {
        self.last_number += 1;
        self.last_number
    }

    /// The volume and its claim.
    fn objects(&self, volume: usize) -> [serde_json::Value; 2] {
        let (name, tier, owner) = (self.names[volume], self.volumes[volume].tier(), self.owner(volume));
        [of_version(pv(name, &claim_of(&owner), &tier), &owner, 0), claim(&claim_of(&owner), &tier)]
    }

    /// What the volume's claim is named after.
    fn owner(&self, volume: usize) -> String {
        format!("{}-{}", self.names[volume], self.volumes[volume].made)
    }

    fn make(&mut self, volume: usize) {
        self.volumes[volume] = Volume { made: self.number(), labelled: 0, exists: true };
        self.node.server.put(self.objects(volume));
    }

    fn delete(&mut self, volume: usize) {
        if std::mem::take(&mut self.volumes[volume].exists) {
            self.node.server.remove(self.objects(volume));
        }
    }

    fn unmount(&mut self, volume: usize) {
        self.mounted.retain(|(mounted, _)| *mounted != volume);
    }

    async fn run(&mut self, step: &Step) {
        match step {
            Step::Mount(volume) if self.volumes[*volume].exists => {
                let uid = format!("pod-{}", self.number());
                self.node.server.put([pod(&uid, &[&self.owner(*volume)])]);
                self.mounted.insert((*volume, uid));
            }
            Step::Mount(_) => return,
            Step::Unmount(volume) => self.unmount(*volume),
            Step::Relabel(volume) => {
                self.volumes[*volume].labelled = self.number();
                if self.volumes[*volume].exists {
                    self.node.server.put(self.objects(*volume));
                }
            }
            // Kubernetes deletes no volume while a pod uses it; afterwards its name is free.
            Step::Reuse(volume) => {
                self.unmount(*volume);
                self.delete(*volume);
                self.make(*volume);
            }
            Step::Delete(volume) => self.delete(*volume),
            Step::Fail(resource, fault) => self.node.server.fault(resource, fault.clone(), usize::MAX),
            Step::Recover => self.node.server.lock().faults.clear(),
            Step::EndWatches => self.node.server.end_watches(),
            Step::Bookmark => self.node.server.bookmark(),
            Step::Pass(time) => {
                // Scrapes come in between.
                for _ in 0..4 {
                    self.scrape();
                    pass(*time / 4).await;
                    self.check();
                }
            }
        }
        self.scrape();
        self.check();
    }

    fn scrape(&mut self) {
        let mounts = self.mounted.iter().map(|(volume, uid)| (self.names[*volume], uid.as_str()));
        self.node.mount(&mounts.collect::<Vec<_>>());
    }

    /// The labels of a mount are those of the volume that the pod mounts, and never fall back.
    fn check(&mut self) {
        self.shown.retain(|key, _| self.mounted.contains(key));
        for key in &self.mounted {
            let tiers = self.node.tiers(self.names[key.0], &key.1);
            let [pv, claim] = [0, 1].map(|at| tiers.split(' ').nth(at).unwrap_or("?"));
            let is_known = pv != "?" && pv != "-";
            if let Some(before) = self.shown.get(key) {
                let is_lost = !is_known || (claim == "-" && !before.ends_with(" -"));
                let number = |text: &str| text.split(['.', ' ']).nth(1)?.parse::<usize>().ok();
                assert!(!is_lost && number(pv) >= number(before), "{key:?} had {before}, and has {tiers}");
            }
            if is_known {
                let made = |tier: &str| tier.split('.').next().map(ToOwned::to_owned);
                let volume = self.volumes[key.0];
                assert!(!volume.exists || made(pv) == made(&volume.tier()), "{key:?}: of another volume");
                assert!(claim == "-" || made(claim) == made(pv), "{key:?}: {tiers}");
                self.shown.insert(key.clone(), tiers);
            }
        }
        let in_flight = self.node.server.lock().open("get");
        assert!(in_flight <= 4, "{in_flight} lookups in flight");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn labels_never_flap_and_are_up_to_date_within_one_refresh(steps in prop::collection::vec(step(), 1..60)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new();
            for step in &steps {
                model.run(step).await;
            }
            // Once everything works again, every object that exists is known within one refresh.
            model.node.server.lock().faults.clear();
            model.node.server.end_watches();
            model.scrape();
            pass(MAX_REFRESH).await;
            model.check();
            for (volume, uid) in model.mounted.iter().filter(|(volume, _)| model.volumes[*volume].exists) {
                let tier = model.volumes[*volume].tier();
                prop_assert_eq!(model.node.tiers(model.names[*volume], uid), format!("{tier} {tier}"));
            }
            Ok(())
        })?;
    }
}
