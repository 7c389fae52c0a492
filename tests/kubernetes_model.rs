use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use crate::support::apiserver::{Fault, Resource, Server, Verb, of};
use crate::support::virtual_node::{MINUTE, REFRESH, SECOND, VirtualNode, claim, claim_of, pass, pod, pv};

const NAMES: [&str; 4] = ["pv-0", "pv-1", "pv-2", "pv-3"];

/// What happens, one after the other.
#[derive(Debug, Clone)]
enum Step {
    /// A pod mounts a volume, or all volumes of its name are unmounted.
    Mount(usize),
    Unmount(usize),
    /// The labels of a volume and its claim are changed, both at once.
    Relabel(usize),
    /// A volume and its claim are deleted, and made again with the same name, for another claim.
    Reuse(usize),
    Delete(usize),
    /// From now on, requests of a kind come to this.
    Fail(Verb, Resource, Fault),
    Recover,
    EndWatches,
    Bookmark,
    Pass(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let volume = 0..NAMES.len();
    let fault = select(vec![
        Fault::Close,
        Fault::Hang,
        Fault::Half,
        Fault::Status(403, None),
        Fault::Status(404, None),
        Fault::Status(429, Some(7)),
        Fault::Status(500, None),
        Fault::Status(503, None),
        Fault::Body("{}".into()),
        Fault::NotInCache,
    ]);
    let kind = select(vec![
        (Verb::Watch, Resource::Pods),
        (Verb::Get, Resource::PersistentVolumes),
        (Verb::Get, Resource::PersistentVolumeClaims),
    ]);
    let times = [SECOND / 100, SECOND, 10 * SECOND, MINUTE, 11 * MINUTE, REFRESH];
    prop_oneof![
        4 => volume.clone().prop_map(Step::Mount),
        1 => volume.clone().prop_map(Step::Unmount),
        2 => volume.clone().prop_map(Step::Relabel),
        1 => volume.clone().prop_map(Step::Reuse),
        1 => volume.prop_map(Step::Delete),
        2 => (kind, fault).prop_map(|((verb, resource), fault)| Step::Fail(verb, resource, fault)),
        1 => Just(Step::Recover),
        1 => Just(Step::EndWatches),
        1 => Just(Step::Bookmark),
        6 => select(times.to_vec()).prop_map(Step::Pass),
    ]
}

/// What the server has, and what the node mounts.
struct Model {
    node: VirtualNode,
    /// By volume: how often it was made, or `None` if it is not there, and how often it was labelled.
    made: BTreeMap<usize, (Option<usize>, usize)>,
    /// By volume: the pods that mount it.
    mounted: BTreeMap<usize, BTreeSet<String>>,
    /// What is shown, and the labels that each volume has had since it was mounted.
    shown: BTreeMap<(usize, String), String>,
    next: usize,
}

impl Model {
    fn new() -> Self {
        let server = Server::in_process();
        let node = VirtualNode::start(&server);
        let mut model =
            Self { node, made: BTreeMap::new(), mounted: BTreeMap::new(), shown: BTreeMap::new(), next: 0 };
        (0..NAMES.len()).for_each(|volume| model.make(volume));
        model
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    /// The claim of a volume that was made for the n-th time.
    fn claim_name(volume: usize, made: usize) -> String {
        format!("{}-{made}", claim_of(NAMES[volume]))
    }

    fn put(&self, volume: usize) {
        let (Some(made), labelled) = self.made[&volume] else { return };
        let claim_name = Self::claim_name(volume, made);
        let tier = format!("{made}.{labelled}");
        let mut object = pv(NAMES[volume], &claim_name, &tier);
        object["metadata"]["uid"] = format!("uid-of-{claim_name}").into();
        self.node.server.put_all([object, claim(&claim_name, &tier)]);
    }

    fn make(&mut self, volume: usize) {
        let made = self.number();
        self.made.insert(volume, (Some(made), 0));
        self.put(volume);
    }

    fn delete(&mut self, volume: usize) {
        if let Some((Some(made), labelled)) = self.made.get(&volume).copied() {
            self.node.server.remove(Resource::PersistentVolumes, "", NAMES[volume]);
            let claim = Self::claim_name(volume, made);
            self.node.server.remove(Resource::PersistentVolumeClaims, "shop", &claim);
            self.made.insert(volume, (None, labelled));
        }
    }

    fn scrape(&mut self) {
        let rows: Vec<(&str, &str)> = self
            .mounted
            .iter()
            .flat_map(|(volume, pods)| pods.iter().map(|pod| (NAMES[*volume], pod.as_str())))
            .collect();
        self.node.mount(&rows);
    }

    async fn run(&mut self, step: &Step) {
        match step {
            Step::Mount(volume) => {
                let Some((Some(made), _)) = self.made.get(volume).copied() else { return };
                let uid = format!("pod-{}", self.number());
                self.node.server.put(pod(&uid, &[Self::claim_name(*volume, made)]));
                self.mounted.entry(*volume).or_default().insert(uid);
            }
            Step::Unmount(volume) => drop(self.mounted.remove(volume)),
            Step::Relabel(volume) => {
                let number = self.number();
                self.made.get_mut(volume).unwrap().1 = number;
                self.put(*volume);
            }
            // Kubernetes deletes no volume while a pod uses it; afterwards its name is free.
            Step::Reuse(volume) => {
                self.mounted.remove(volume);
                self.delete(*volume);
                self.make(*volume);
            }
            Step::Delete(volume) => self.delete(*volume),
            Step::Fail(verb, resource, fault) => {
                self.node.server.fault(of(*verb, *resource), fault.clone(), usize::MAX);
            }
            Step::Recover => self.node.server.clear_faults(),
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

    /// What is shown of a mount begins with the labels of the volume that the pod mounts, and never falls back.
    fn check(&mut self) {
        let mounts: Vec<(usize, String)> = self
            .mounted
            .iter()
            .flat_map(|(volume, pods)| pods.iter().map(|pod| (*volume, pod.clone())))
            .collect();
        self.shown.retain(|key, _| mounts.contains(key));
        for key in mounts {
            let tiers = self.node.tiers(NAMES[key.0], &key.1);
            let [pv, claim] = [0, 1].map(|at| tiers.split(' ').nth(at).unwrap_or("?").to_owned());
            if let Some(before) = self.shown.get(&key) {
                assert!(pv != "?" && pv != "-", "{key:?} had {before}, and has {tiers}");
                let lost = claim == "-" && !before.ends_with(" -");
                assert!(!lost, "{key:?} had {before}, and has {tiers}");
                let version = |text: &str| text.split('.').nth(1).and_then(|text| text.parse::<usize>().ok());
                let known = before.split(' ').next().and_then(version);
                assert!(version(&pv) >= known, "{key:?} had {before}, and has {tiers}");
            }
            if pv != "?" && pv != "-" {
                if let (Some(made), _) = self.made[&key.0] {
                    assert_eq!(pv.split('.').next(), Some(&*made.to_string()), "{key:?}: of another volume");
                }
                assert!(claim == "-" || claim.split('.').next() == pv.split('.').next(), "{key:?}: {tiers}");
                self.shown.insert(key, tiers);
            }
        }
        let in_flight = self.node.server.counts().in_flight;
        assert!(in_flight <= 4, "{in_flight} lookups in flight");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn labels_never_flap_and_every_wanted_object_is_asked_again_in_time(steps in prop::collection::vec(step(), 1..60)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new();
            for step in &steps {
                model.run(step).await;
            }
            // Once everything works again, everything that is there is known within one refresh, for what fails, one pause.
            model.node.server.clear_faults();
            model.node.server.end_watches();
            model.scrape();
            pass(REFRESH.mul_f64(1.21)).await;
            model.check();
            for (volume, pods) in &model.mounted {
                let (Some(made), labelled) = model.made[volume] else { continue };
                for pod in pods {
                    let tier = format!("{made}.{labelled}");
                    prop_assert_eq!(model.node.tiers(NAMES[*volume], pod), format!("{tier} {tier}"));
                }
            }
            Ok(())
        })?;
    }
}
