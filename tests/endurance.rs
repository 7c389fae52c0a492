use std::collections::BTreeSet;
use std::sync::mpsc;

use crate::real_mounts::assert_as_the_kernel_says;
use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::namespace::{Needs, in_namespace};
use crate::support::resources::Resources;
use crate::support::restless::Restless;
use crate::support::{env_number, http};

/// After so many scrapes everything that is kept has been there once.
const FIRST: usize = 300;
/// After each so many the program is checked.
const ROUND: usize = 100;
/// Of so many scrapes two are parsed, one of each encoding.
const SAMPLE: usize = 20;
/// Scrapes, where the environment gives no number: 10,000 take a debug build some minutes.
const SCRAPES: usize = 1_000;
/// How much more memory may be in use at the end, which the allocator alone makes up to 700 in the first
/// thousand scrapes and no more after: a leak of 100 bytes a scrape makes 1,000 more in 10,000.
const MAX_GROWTH_KIB: u64 = 900;
/// How much the peak may move: it depends on what came together.
const MAX_PEAK_GROWTH_KIB: u64 = 2 << 10;

#[test]
fn thousands_of_scrapes_of_a_restless_node_leave_nothing_behind() {
    in_namespace(Needs::Mounts, |node| {
        let scrapes = env_number("DISK_USAGE_EXPORTER_TEST_SCRAPES", SCRAPES);
        let mut restless = Restless::new(node, 0x9274);
        let objects = format!("--objects={}", restless.objects_path().display());
        // Of several arenas the allocator would use another one now and then, which looks like a leak.
        let exporter = Exporter::start_with_env(&[("MALLOC_ARENA_MAX", "1")], &["--rootfs=/", &objects]);
        scrape_while_it_acts(&exporter, &mut restless, FIRST);
        let first = at_the_beginning_again(&exporter, &mut restless);
        println!("after {FIRST} scrapes: {first}");
        for round in 1..=scrapes.div_ceil(ROUND) {
            scrape_while_it_acts(&exporter, &mut restless, ROUND);
            check(&exporter, &restless);
            if round % 10 == 0 {
                println!("after {} scrapes: {}", round * ROUND, Resources::of(exporter.pid()));
            }
        }
        let last = at_the_beginning_again(&exporter, &mut restless);
        println!("at the end: {last}; the node changed {} times", restless.acts);
        let last = first.wait_until_back(exporter.pid());
        let has_grown = last.anonymous > first.anonymous + MAX_GROWTH_KIB
            || last.resident > first.resident + MAX_GROWTH_KIB
            || last.peak > first.peak + MAX_PEAK_GROWTH_KIB;
        assert!(!has_grown, "from {first} to {last}");
    });
}

/// So many scrapes, two at a time, each of which must be whole; meanwhile another thread changes the node, once a
/// collection or so.
fn scrape_while_it_acts(exporter: &Exporter, restless: &mut Restless<'_>, scrapes: usize) {
    let (go_on, scrape_begins) = mpsc::sync_channel(1);
    let address = exporter.address;
    std::thread::scope(|scope| {
        scope.spawn(move || scrape_begins.iter().for_each(|()| restless.act()));
        for scrape in (0..scrapes).step_by(2) {
            go_on.send(()).unwrap();
            let get = move |coding: &[_]| http::get(address, "/metrics", coding);
            let gzip = std::thread::spawn(move || get(&[("Accept-Encoding", "gzip")]));
            for response in [get(&[]), gzip.join().unwrap()] {
                assert_eq!(response.status, 200, "{}", response.text());
                let length = response.header("content-length").unwrap().parse();
                assert_eq!(length, Ok(response.body.len()));
                if scrape % SAMPLE < 2 {
                    Exposition::parse(&response.text());
                }
            }
        }
        drop(go_on);
    });
}

/// What the program holds when the node is as it was in the beginning, and the program knows it.
fn at_the_beginning_again(exporter: &Exporter, restless: &mut Restless<'_>) -> Resources {
    restless.settle();
    check(exporter, restless);
    (0..10).for_each(|_| drop(exporter.scrape()));
    Resources::at_rest(exporter.pid())
}

/// While nothing changes, the scrape shows what is mounted, and nothing else.
fn check(exporter: &Exporter, restless: &Restless<'_>) {
    let volumes = restless.volumes();
    assert_as_the_kernel_says(&exporter.scrape(), &volumes);
    // The file of objects is read beside the scrape: a large one, on a busy machine, is used from the next one on.
    let scrape = exporter.scrape_until("the objects of the file", |scrape| {
        let success = scrape.value("disk_usage_exporter_source_success", &[("source", "objects")]);
        success == Some(f64::from(u8::from(restless.objects.is_some())))
            && (restless.objects.is_none()
                || volumes.is_empty()
                || versions(scrape)
                    == restless.objects.map(|version| version.to_string()).into_iter().collect())
    });
    assert!(versions(&scrape).len() <= 1, "claims of several files: {:?}", versions(&scrape));
}

/// The versions of the file of objects that the claims are of.
fn versions(scrape: &Exposition) -> BTreeSet<String> {
    let claims = scrape.label("pv_disk_usage_up", "pvc_name");
    claims.iter().map(|claim| claim.split('-').nth(1).unwrap().to_owned()).collect()
}
