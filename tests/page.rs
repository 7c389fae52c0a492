use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::exporter::Exporter;
use crate::support::fixture::{Fixture, answering};
use crate::support::http;

const HOSTILE: &str = "<script>alert(1)<!--\u{202e}\"'&";

/// The record of a file system of which so many percent are in use.
fn filled(percent: u32) -> Value {
    let free = 100 - percent;
    json!({"statvfs": {"frsize": 4096, "blocks": 100, "bfree": free, "bavail": free, "files": 100, "ffree": 90}})
}

fn serve(volumes: &[(&str, Value)], stat_timeout: &str) -> (Fixture, Exporter) {
    let fixture = Fixture::of(volumes);
    let exporter = Exporter::start(&[&fixture.flag(), stat_timeout]);
    (fixture, exporter)
}

/// A node with volumes of every kind.
fn node() -> (Fixture, Exporter) {
    let volumes =
        [("half", filled(50)), ("full", filled(95)), ("stuck", json!("hang")), (HOSTILE, filled(20))];
    serve(&volumes, "--stat-timeout=500ms")
}

/// Finds these texts, which must be in this order.
fn assert_in_order(page: &str, texts: &[&str]) {
    let mut rest = page;
    for text in texts {
        let at = rest.find(text).unwrap_or_else(|| panic!("{text} is not there, or not in order: {page}"));
        rest = &rest[at..];
    }
}

#[test]
fn page_is_html_that_nothing_from_elsewhere_may_use() {
    let (_fixture, exporter) = node();
    exporter.wait_for_log("fixture_mode");
    let plain = http::get(exporter.address, "/", &[]);
    let compressed = http::get(exporter.address, "/", &[("Accept-Encoding", "gzip")]);
    for page in [&plain, &compressed] {
        let names = ["content-type", "cache-control", "vary", "content-security-policy"];
        let policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
            frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
        let expected = ["text/html; charset=utf-8", "no-store", "Accept-Encoding", policy];
        assert_eq!(names.map(|name| page.header(name)), expected.map(Some));
    }
    let encodings = [&plain, &compressed].map(|page| page.header("content-encoding"));
    assert_eq!(encodings, [None, Some("gzip")]);
    assert!(compressed.body.len() < plain.body.len());
    let page = plain.text();
    assert_in_order(&page, &["recorded node", "not this machine's volumes", "<b>1</b> hung"]);
    let rows =
        ["<b>hung</b>", "stuck", "did not answer", "95.0%", "full", "50.0%", "half", "&#60;script&#62;alert"];
    assert_in_order(&page, &rows);
    assert!(!page.contains("<script>") && !page.contains('\u{202e}'), "{page}");
}

/// One start of the browser, which takes seconds, for all.
#[test]
fn browser_shows_every_volume_on_every_screen_with_and_without_scripts() {
    let Some(browser) = Browser::start() else { return };
    let (_fixture, exporter) = node();
    assert_volumes_are_shown_and_filtered(&browser, &exporter);
    assert_fits_every_screen(&browser);
    assert_complete_without_scripts(&browser, &exporter);
}

fn assert_volumes_are_shown_and_filtered(browser: &Browser, exporter: &Exporter) {
    browser.open(exporter.address);
    let rows = browser.run("return [...document.querySelectorAll('tbody tr')].map((row) => row.innerText)");
    let expected =
        [["hung", "stuck"], ["95.0%", "full"], ["50.0%", "half"], ["20.0%", "<script>alert(1)<!--"]];
    assert_eq!(rows.as_array().unwrap().len(), expected.len());
    for (row, texts) in rows.as_array().unwrap().iter().zip(expected) {
        assert!(texts.iter().all(|text| row.as_str().unwrap().contains(text)), "{texts:?} in {row}");
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

    for (typed, shown) in [("HUNG", json!(["stuck"])), ("nfs4 ful", json!(["full"])), ("nothing", json!([]))]
    {
        browser.type_into(".filter input", typed);
        let rows = browser.run(
            "return [...document.querySelectorAll('tbody tr')].filter((row) => row.offsetHeight > 0)
                .map((row) => row.querySelector('th bdi').textContent)",
        );
        assert_eq!(rows, shown, "{typed}");
        let count = browser.run("return document.querySelector('.filter output').textContent");
        assert_eq!(count, format!("{} of 4", shown.as_array().unwrap().len()));
    }
    assert_eq!(browser.console(), json!([]));
}

/// Without scrolling sideways; and dark is dark.
fn assert_fits_every_screen(browser: &Browser) {
    let volumes = [(&*"x".repeat(253), answering()), ("stuck", json!("hang"))];
    let (_fixture, exporter) = serve(&volumes, "--stat-timeout=500ms");
    browser.set_width(375);
    let brightness = |scheme| {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
        browser.open(exporter.address);
        browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })");
        let widths = browser.run(
            "const root = document.documentElement;
            return [root.clientWidth, root.scrollWidth, document.querySelector('tbody').scrollWidth <= 375]",
        );
        assert_eq!(widths, json!([375, 375, true]), "{scheme}");
        // What has no figure has no words for it either.
        let hidden = "return [...document.querySelectorAll('.failed .figure, .well .size')].map(\
            (cell) => getComputedStyle(cell).display === 'none')";
        assert_eq!(browser.run(hidden), json!([true, true, true, false]));
        let colour = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]");
        colour.as_str().unwrap().parse::<u32>().unwrap()
    };
    assert!(brightness("light") > 200 && brightness("dark") < 60);

    // The longest figures leave room for names.
    let huge = json!({"statvfs": {"frsize": u32::MAX, "blocks": u64::MAX, "bfree": u64::MAX, "bavail": u64::MAX,
        "files": u64::MAX, "ffree": 0}});
    let (_fixture, exporter) = serve(&[("huge", huge)], "--stat-timeout=500ms");
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

fn assert_complete_without_scripts(browser: &Browser, exporter: &Exporter) {
    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open(exporter.address);
    let document = browser.devtools("DOM.getDocument", &json!({"depth": 0}));
    let html = browser.devtools("DOM.getOuterHTML", &json!({"nodeId": document["root"]["nodeId"]}));
    let dom = html["outerHTML"].as_str().unwrap();
    assert!(dom.contains("<p class=\"filter\" hidden=\"\">"), "it would filter nothing: {dom}");
    let rows = ["hung", "stuck", "95.0%", "full", "50.0%", "half", "20.0%", "</table>", "/metrics"];
    assert_in_order(dom, &rows);
}
