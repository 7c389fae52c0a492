use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::exporter::Exporter;
use crate::support::fixture::{Fixture, answering};
use crate::support::fuse::Behaviour;
use crate::support::http::{self, Response};
use crate::support::kubelet::Kubelet;
use crate::support::namespace::{Needs, in_namespace};
use crate::support::subject::{Subject, healthy, volumes};

const HOSTILE: &str = "<script>alert(1)<!--\u{202e}\"'&";

/// The record of a file system of which so many percent are in use.
fn filled(percent: u32) -> Value {
    let free = 100 - percent;
    json!({"statvfs": {"frsize": 4096, "blocks": 100, "bfree": free, "bavail": free, "files": 100, "ffree": 90}})
}

/// A node with volumes of every kind.
fn node() -> (Fixture, Exporter) {
    let mut fixture = Fixture::new();
    fixture.mount_unwritten("half", filled(50));
    fixture.mount_unwritten("full", filled(95));
    fixture.mount_unwritten("stuck", json!("hang"));
    fixture.mount_unwritten(HOSTILE, filled(20));
    fixture.write();
    let exporter = Exporter::start(&[&fixture.flag(), "--stat-timeout=500ms"]);
    (fixture, exporter)
}

/// Where each of these texts begins, which must be in this order.
fn assert_in_order(page: &str, texts: &[&str]) {
    let mut rest = page;
    for text in texts {
        let at = rest.find(text).unwrap_or_else(|| panic!("{text} is not there, or not in order: {page}"));
        rest = &rest[at..];
    }
}

#[test]
fn the_page_is_html_for_nobody_else() {
    let (_fixture, exporter) = node();
    let plain = http::get(exporter.address, "/", &[]);
    let packed = http::get(exporter.address, "/", &[("Accept-Encoding", "gzip")]);
    for page in [&plain, &packed] {
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert_eq!(page.header("vary"), Some("Accept-Encoding"));
        let policy = page.header("content-security-policy").unwrap();
        let rules = [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "img-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ];
        assert_eq!(policy.split("; ").collect::<Vec<_>>(), rules);
    }
    assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), (None, Some("gzip")));
    assert!(packed.body.len() < plain.body.len());
    let page = plain.text();
    assert_in_order(
        &page,
        &["recorded node", "hung", "stuck", "95.0%", "full", "50.0%", "half", "&lt;script&gt;alert"],
    );
    assert!(!page.contains("<script>") && !page.contains('\u{202e}'), "{page}");
}

#[test]
fn a_volume_that_hangs_is_shown_as_hung() {
    in_namespace(Needs::Fuse, |node| {
        let volumes = [volumes("well", 1, healthy()), volumes("ill", 1, Behaviour::Deaf)].concat();
        let it = Subject::start(node, &volumes, &["--stat-timeout=1s"]);
        for _ in 0..2 {
            let page = it.exporter.get("/").text();
            assert_in_order(
                &page,
                &["<b>1</b> hung", "<b>hung</b>", "ill-0000", "did not answer", "well-0000"],
            );
        }
    });
}

#[test]
fn with_the_kubelet_alone_its_claims_are_shown() {
    let kubelet = Kubelet::start();
    let exporter = Exporter::start(&[&kubelet.endpoint(), "--node-name=node-7"]);
    exporter.scrape_until("an answer", |scrape| {
        !scrape.all("kubelet_volume_stats_capacity_bytes", &[]).is_empty()
    });
    let page = exporter.get("/").text();
    assert_in_order(
        &page,
        &["Volumes of node-7", "<b>3</b> volumes", "shop/</span>", "as the kubelet reports it"],
    );
    for claim in ["csi-fs", "csi-block", "local-claim"] {
        assert!(page.contains(&format!("<bdi><span>shop/</span>{claim}</bdi>")), "{claim}: {page}");
    }
}

#[test]
fn pages_and_scrapes_at_one_time_share_a_collection() {
    let mut fixture = Fixture::new();
    fixture.mount("stuck", json!("hang"));
    let exporter = Exporter::start(&[&fixture.flag(), "--stat-timeout=2s"]);
    let ask = |path: &&str| {
        let mut stream: TcpStream = http::connect(exporter.address);
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        stream
    };
    let mut streams: Vec<TcpStream> = ["/", "/metrics"].repeat(10).iter().map(ask).collect();
    for stream in &mut streams {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(Response::parse(&answer).status, 200);
    }
    // A table that is a plain file is read for each collection: the one at start, perhaps another one, and this.
    let reads = exporter.scrape().value("disk_usage_exporter_mount_table_reads_total", &[]).unwrap();
    assert!(reads <= 3.0, "{reads} collections for 21 answers");
}

#[test]
fn pages_that_wait_delay_neither_probes_nor_what_needs_no_collection() {
    let mut fixture = Fixture::new();
    fixture.mount("stuck", json!("hang"));
    let exporter = Exporter::start(&[&fixture.flag(), "--stat-timeout=1h"]);
    let mut waiting: Vec<TcpStream> = (0..100).map(|_| http::connect(exporter.address)).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
    for path in ["/healthz", "/style.css"] {
        assert_eq!(exporter.get(path).status, 200, "{path}");
    }
}

#[test]
fn a_browser_shows_what_a_person_looks_for() {
    let Some(browser) = Browser::start() else { return };
    let (_fixture, exporter) = node();
    browser.open(exporter.address);
    let rows = browser.run("return [...document.querySelectorAll('tbody tr')].map((row) => row.innerText)");
    let rows: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row.as_str().unwrap()).collect();
    let expected =
        [["hung", "stuck"], ["95.0%", "full"], ["50.0%", "half"], ["20.0%", "<script>alert(1)<!--"]];
    assert_eq!(rows.len(), expected.len());
    for (row, texts) in rows.iter().zip(expected) {
        assert!(texts.iter().all(|text| row.contains(text)), "{texts:?} in {row}");
    }
    let bars = browser.run(
        "return [...document.querySelectorAll('.bar')].map((bar) =>
            Math.round(1000 * bar.firstChild.getBoundingClientRect().width / bar.getBoundingClientRect().width))",
    );
    assert_eq!(bars, json!([950, 500, 200]), "as wide as they are full");
    let colours = browser.run(
        "return new Set([...document.querySelectorAll('.bar rect')].map((bar) => getComputedStyle(bar).fill)).size",
    );
    assert_eq!(colours, 2, "the full one is of another colour");
    let origin = format!("http://{}/", exporter.address);
    let requests = browser.requests();
    assert!(requests.len() >= 3 && requests.iter().all(|url| url.starts_with(&origin)), "{requests:?}");
    assert_eq!(browser.console(), [Value::Null; 0]);
}

#[test]
fn typing_leaves_the_rows_that_fit() {
    let Some(browser) = Browser::start() else { return };
    let (_fixture, exporter) = node();
    browser.open(exporter.address);
    let shown = || {
        browser.run(
            "return [...document.querySelectorAll('tbody tr')].filter((row) => row.offsetHeight > 0)
                .map((row) => row.querySelector('th bdi').textContent)",
        )
    };
    assert_eq!(shown().as_array().unwrap().len(), 4);
    for (typed, rows) in [("HUNG", json!(["stuck"])), ("nfs4 ful", json!(["full"])), ("nothing", json!([]))] {
        browser.type_into(".filter input", typed);
        assert_eq!(shown(), rows, "{typed}");
        let said = browser.run("return document.querySelector('.filter output').textContent");
        assert_eq!(said, format!("{} of 4", rows.as_array().unwrap().len()));
    }
    assert_eq!(browser.console(), [Value::Null; 0]);
}

#[test]
fn a_phone_shows_all_without_scrolling_sideways_and_dark_is_dark() {
    let Some(browser) = Browser::start() else { return };
    let mut fixture = Fixture::new();
    fixture.mount_unwritten(&"x".repeat(253), answering());
    fixture.mount_unwritten("stuck", json!("hang"));
    fixture.write();
    let exporter = Exporter::start(&[&fixture.flag(), "--stat-timeout=500ms"]);
    browser.set_width(375);
    let brightness = |scheme| {
        browser.prefer(scheme);
        browser.open(exporter.address);
        browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })");
        let widths = browser.run(
            "const root = document.documentElement;
            return [root.clientWidth, root.scrollWidth, document.querySelector('tbody').scrollWidth <= 375]",
        );
        assert_eq!(widths, json!([375, 375, true]), "{scheme}");
        // What has no figure has no words for it either.
        let shown = "return [...document.querySelectorAll('.failed .figure, .well .size')].map(\
            (cell) => getComputedStyle(cell).display === 'none')";
        assert_eq!(browser.run(shown), json!([true, true, true, false]));
        let colour = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]");
        colour.as_str().unwrap().parse::<u32>().unwrap()
    };
    assert!(brightness("light") > 200 && brightness("dark") < 60);
}

#[test]
fn no_figure_takes_the_room_of_names() {
    let Some(browser) = Browser::start() else { return };
    let mut fixture = Fixture::new();
    let most = json!({"frsize": u32::MAX, "blocks": u64::MAX, "bfree": u64::MAX, "bavail": u64::MAX,
        "files": u64::MAX, "ffree": 0});
    fixture.mount("huge", json!({"statvfs": most}));
    let exporter = Exporter::start(&[&fixture.flag()]);
    for width in [320, 768, 900, 1280] {
        browser.set_width(width);
        browser.open(exporter.address);
        let widths = browser.run(
            "return [document.documentElement.scrollWidth,
                document.querySelector('tbody th').getBoundingClientRect().width >= 200]",
        );
        assert_eq!(widths, json!([width, true]), "{width}");
    }
}

#[test]
fn it_is_complete_without_javascript() {
    let Some(browser) = Browser::start_without_scripts() else {
        return;
    };
    let (_fixture, exporter) = node();
    browser.open(exporter.address);
    let dom = browser.dom();
    assert!(dom.contains("<p class=\"filter\" hidden=\"\">"), "it would filter nothing: {dom}");
    assert_in_order(
        &dom,
        &["hung", "stuck", "95.0%", "full", "50.0%", "half", "20.0%", "</table>", "/metrics"],
    );
}
