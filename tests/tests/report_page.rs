//! The report's page in a real browser: what a reader sees and does there.
//!
//! Clauses: CERT-2.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod report_support;

use std::path::Path;

use conformance::report::{self, Report};
use report_support::browser::Page;
use report_support::sample;
use serde_json::json;

/// A laptop's screen, and a small phone's.
const WIDE: u32 = 1280;
const NARROW: u32 = 360;

/// Writes a report and opens its page, which from then on needs no file any more.
fn opened(report: &Report, open: impl FnOnce(&Path) -> Page) -> Page {
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), report).unwrap();
    open(&folder.path().join("index.html"))
}

fn on(report: &Report, width: u32) -> Page {
    opened(report, |file| Page::open(file, width))
}

/// Opens all failing cases and waits until they are drawn: the page hears of it before this does.
const OPEN_ALL: &str =
    "Promise.all([...document.querySelectorAll('.failure')].map(failure => new Promise(drawn => {
    failure.addEventListener('toggle', drawn, { once: true });
    failure.open = true;
}))).then(() => 0)";

/// The clauses that are to be seen, in their order.
const SHOWN: &str = "[...document.querySelectorAll('tr.clause')].filter(row => row.checkVisibility())
    .map(row => row.querySelector('th').textContent)";

fn filter(page: &mut Page, field: &str, value: &str) -> serde_json::Value {
    page.eval(&format!(
        "{{ const field = document.querySelector('#filter-{field}');
            field.value = {value:?};
            field.dispatchEvent(new Event('input', {{ bubbles: true }})); }}"
    ));
    page.eval(SHOWN)
}

#[test]
fn the_page_opens_without_a_complaint_and_asks_for_nothing_else() {
    for (report, verdict) in [(sample::failing(), "fails"), (sample::conforming(), "conforms")] {
        let mut page = on(&report, WIDE);
        page.eval(OPEN_ALL);
        assert_eq!(page.complaints(), Vec::<String>::new());
        let foreign = page.requests().iter().filter(|url| !url.starts_with("data:")).count();
        assert_eq!(foreign, 1, "the page itself: {:?}", page.requests());
        assert_eq!(page.eval("document.querySelector('#verdict').textContent"), verdict);
        let text = page.eval("document.body.innerText");
        let asked = report.schedules.map_or_else(|| "seed".to_owned(), |count| count.to_string());
        let Report { wit_sha256, suite_sha256, started, world, .. } = &report;
        for bound in [&report.policy.sha256, wit_sha256, suite_sha256, started, world, &asked] {
            assert!(text.as_str().unwrap().contains(bound.as_str()), "{bound}");
        }
    }
}

#[test]
fn a_filter_hides_the_clauses_that_it_does_not_want() {
    let mut page = on(&sample::failing(), WIDE);
    let all = json!(["NAME-1", "NAME-2", "BOOT-1", "OWN-9", "SNAP-1", "STOP-1", "KUBE-1"]);
    assert_eq!(page.eval(SHOWN), all, "by profile");
    assert_eq!(filter(&mut page, "text", "ACKNOWLEDGED"), json!(["STOP-1"]));
    assert_eq!(page.eval("document.querySelector('#filter-count').textContent"), "1 of 7 clauses");
    let heads =
        "[...document.querySelectorAll('#clauses tbody')].filter(body => body.checkVisibility()).length";
    assert_eq!(page.eval(heads), 1, "a profile without a clause goes too");
    assert_eq!(filter(&mut page, "text", ""), all);
    assert_eq!(filter(&mut page, "status", "skipped"), json!(["OWN-9"]));
    assert_eq!(filter(&mut page, "status", ""), all);
    assert_eq!(filter(&mut page, "profile", "durable"), json!(["SNAP-1", "STOP-1"]));
    assert_eq!(filter(&mut page, "status", "failed"), json!(["STOP-1"]));
}

#[test]
fn a_failing_case_is_shown_as_a_diagram_in_which_the_fault_is_marked() {
    let mut page = on(&sample::failing(), WIDE);
    assert_eq!(page.eval("document.querySelectorAll('.diagram svg').length"), 0, "none before it is opened");
    page.eval(OPEN_ALL);
    let heads = "[...document.querySelectorAll('.diagram')].map(diagram =>
        [...diagram.querySelectorAll('.head')].map(head => head.textContent))";
    let lanes = json!([["host 0", "host 1", "engine", "cache"], ["host 0", "cluster", "cache"]]);
    assert_eq!(page.eval(heads), lanes);
    let steps = "[...document.querySelectorAll('.diagram')].map(diagram =>
        [...diagram.querySelectorAll('.step')].map(step => step.dataset.fault ?? ''))";
    let marks = json!([["", "", "", "crash-after", "", ""], ["", "fail-before", "stale", ""]]);
    assert_eq!(page.eval(steps), marks);
    let marked = "document.querySelector('.step.bad').textContent";
    assert_eq!(page.eval(marked), "3 \u{2717} crash-after: stop elasticache-s-a");
    // One where the answer is lost, one where the host's line ends.
    assert_eq!(page.eval("document.querySelectorAll('.diagram')[0].querySelectorAll('.cross').length"), 2);
    assert_eq!(page.eval("document.querySelectorAll('.diagram')[1].querySelectorAll('.cross').length"), 1);
    let tall = "[...document.querySelectorAll('.diagram')].every(diagram => diagram.clientHeight > 100)";
    assert_eq!(page.eval(tall), true);
}

/// What the second case's button says after a click.
const COPIED: &str = "new Promise(copied => {
    const button = document.querySelectorAll('.copy')[1];
    new MutationObserver(() => copied(button.textContent)).observe(button, { childList: true });
    button.click();
})";

#[test]
fn the_command_that_replays_a_case_is_copied() {
    let report = sample::failing();
    let mut page = on(&report, WIDE);
    page.call(
        "Browser.grantPermissions",
        json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] }),
    );
    page.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
    page.eval(OPEN_ALL);
    assert_eq!(page.eval(COPIED), "Copied");
    assert_eq!(page.eval("navigator.clipboard.readText()"), report.failures[1].replay.as_str());
}

#[test]
fn where_a_page_may_not_copy_the_command_is_selected() {
    let report = sample::failing();
    let mut page = on(&report, WIDE);
    page.eval(OPEN_ALL);
    page.eval("navigator.clipboard.writeText = () => Promise.reject(new Error('denied'))");
    assert_eq!(page.eval(COPIED), "Selected");
    assert_eq!(page.eval("String(getSelection())"), report.failures[1].replay.as_str());
}

#[test]
fn the_matrix_shows_violations_by_kind_of_fault_and_leads_to_their_case() {
    let mut page = on(&sample::failing(), WIDE);
    let held = "[...document.querySelectorAll('.heat tbody tr')[0].querySelectorAll('[data-held]')]
        .map(cell => cell.dataset.held + cell.textContent)";
    let mut cells = vec!["yes"; 12];
    cells[3] = "no2";
    assert_eq!(page.eval(held), json!(cells));
    let choose = |kind: &str, on: bool| {
        format!(
            "{{ const box = document.querySelector('#kinds [value={kind}]');
                if (box.checked !== {on}) box.click(); }}"
        )
    };
    page.eval(&choose("fail-before", false));
    page.eval(&choose("fail-after", false));
    cells[3] = "never2";
    assert_eq!(page.eval(held), json!(cells), "all runs with this kind");
    page.eval(&choose("crash-after", false));
    assert_eq!(page.eval(held), json!(vec!["untried"; 12]));
    page.eval(&choose("crash-after", true));
    page.eval("document.querySelector('.heat [data-held=never]').click()");
    assert_eq!(page.eval("document.querySelector('.failure').open"), true);
    assert_eq!(page.eval("document.activeElement.closest('.failure').dataset.at"), "0");
}

#[test]
fn the_matrix_is_walked_by_the_arrow_keys() {
    let mut page = on(&sample::failing(), WIDE);
    assert_eq!(page.eval("document.querySelectorAll('.heat [tabindex=\"0\"]').length"), 1);
    page.eval("document.querySelector('.heat [tabindex=\"0\"]').focus()");
    for key in ["ArrowRight", "ArrowRight", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowUp"] {
        page.press(key);
    }
    let detail = page.eval("document.querySelector('#heat-detail').textContent");
    let wanted = "a-stop-keeps-every-write, redis, call 3 call-3: 2 violations in 6 runs: crash-after 2 of 2";
    assert_eq!(detail, wanted);
    assert_eq!(page.eval("document.querySelectorAll('.heat [tabindex=\"0\"]').length"), 1);
    page.press("Enter");
    assert_eq!(page.eval("document.activeElement.closest('.failure').dataset.at"), "0");
}

#[test]
fn on_a_phone_nothing_is_wider_than_the_page() {
    for report in [sample::failing(), sample::conforming()] {
        let mut page = on(&report, NARROW);
        page.eval("for (const details of document.querySelectorAll('details')) details.open = true");
        page.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))");
        let widths = page.eval("[document.scrollingElement.scrollWidth, innerWidth]");
        assert_eq!(widths, json!([NARROW, NARROW]));
        let drawn = page.eval("document.querySelectorAll('.diagram svg').length");
        assert_eq!(drawn, report.failures.len());
        let matrix = "(box => box.scrollWidth > box.clientWidth)(document.querySelector('#heat'))";
        assert_eq!(page.eval(matrix), true, "the matrix scrolls in its own box");
        // What sticks out of the page to the right is in a box that scrolls.
        let outside = page.eval(
            "[...document.body.querySelectorAll('*')].filter(element =>
                element.getBoundingClientRect().right > innerWidth && !element.closest('.scroll, .diagram'))
                .map(element => element.outerHTML.slice(0, 80))",
        );
        assert_eq!(outside, json!([]));
    }
}

#[test]
fn what_looks_like_markup_stays_text() {
    let mut page = on(&sample::failing(), WIDE);
    page.eval(OPEN_ALL);
    assert_eq!(page.eval("window.obeyed ?? null"), json!(null));
    assert_eq!(page.eval("document.scripts.length"), 2);
    assert_eq!(page.eval("document.images.length"), 0);
    let text = page.eval("document.body.textContent");
    // The clause, the scenario, the failing case, the step of its diagram, what was skipped, three mutants.
    assert!(text.as_str().unwrap().matches(sample::HOSTILE).count() >= 8, "{text}");
}

#[test]
fn without_scripts_the_verdict_and_the_clauses_are_there() {
    let mut page = opened(&sample::failing(), |file| Page::without_scripts(file, NARROW));
    let markup = page.markup();
    assert!(markup.contains(r#"data-verdict="fails">fails<"#));
    for clause in sample::failing().clauses {
        assert!(markup.contains(&format!(r#"<th scope="row">{}</th>"#, clause.id)), "{}", clause.id);
    }
    assert!(markup.contains(r#"id="filter" role="search" hidden"#), "what would do nothing is not offered");
    assert!(!markup.contains("<svg"), "no script has run");
}
