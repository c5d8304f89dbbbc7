//! What the page answers: the verdict at the top, the ports, failures and their remedies, hosts,
//! inbound services, the verdict of a policy and the comparison with an earlier run.

use serde_json::{Value, json};

use super::browser::{Browser, DESKTOP, PHONE, Screen};
use super::sample::{self, rich};
use super::{Context, full_file, page};

/// The markup without style, data and script.
fn markup(page: &str) -> &str {
    page.split_once("</style>").unwrap().1.split_once("<script type=").unwrap().0
}

fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = markup(page).split_once(&format!("<section id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}"));
    rest.split_once("\n<section id=").map_or(rest, |(section, _)| section)
}

#[test]
fn the_strip_answers_first() {
    let report = rich::build();
    let text = Context::of(&report).page(&report);
    let strip = markup(&text).split_once("<section class=\"strip\"").unwrap().1.split_once("</section>").unwrap().0;
    for answer in [
        "<li class=\"good\">",
        "<a href=\"#diagnostics\">Complete</a>",
        "Every packet was counted, and nothing was lost.",
        "<a href=\"#failures\">7 failures</a>",
        "<a href=\"#policy\">Policy: ",
        "looked-up names checked against 1 rule.",
        "<a href=\"#changes\">",
        "Compared with run 1b0e.",
    ] {
        assert!(strip.contains(answer), "{answer}: {strip}");
    }
    let quiet = sample::table([sample::tcp(sample::key(6, 40_000, sample::v4(9), 443), 1_000, (3, 300), (3, 900))]);
    let quiet = sample::report(sample::facts(&quiet, &["app"]), &quiet);
    let text = page(&quiet);
    assert!(text.contains("No failures") && !text.contains("href=\"#failures\"") && !text.contains("href=\"#policy\""));
}

#[test]
fn every_format_of_netwatch_ports_is_on_the_page() {
    use netwatch::policy::{RuleFormat, RuleOptions, write};
    let report = rich::build();
    let text = page(&report);
    let ports = section(&text, "ports");
    for format in RuleFormat::ALL {
        let mut written = Vec::new();
        write(format, &[&report], &RuleOptions::default(), &mut written).unwrap();
        let written = String::from_utf8(written).unwrap();
        let escaped = written.replace("\r\n", "\n").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let escaped = escaped.replace('"', "&quot;").replace('\'', "&#39;");
        assert!(ports.contains(&format!("<summary>{}</summary>", format.name())), "{format:?}");
        assert!(ports.contains(&format!("\n{escaped}</pre>")), "{format:?}");
    }
}

#[test]
fn failures_have_a_cause_and_a_remedy() {
    let text = page(&rich::build());
    let failures = section(&text, "failures");
    for words in [
        "198.51.100.50",
        "tcp/5432",
        "refused",
        "The host answered that tcp/5432 is closed.",
        "gone.example",
        "NXDOMAIN",
        "The name does not exist for the DNS resolver (127.0.0.53:53).",
        "nothing listens on udp/9",
    ] {
        assert!(failures.contains(words), "{words}: {failures}");
    }
}

#[test]
fn inbound_services_are_grouped_by_local_port() {
    let text = page(&rich::build());
    let services = section(&text, "services");
    assert!(
        services.contains("tcp/8080") && services.contains("data-label=\"Clients\" class=\"number\">1<"),
        "{services}"
    );
    assert!(services.contains("Response") && services.contains("data-label=\"5xx\" class=\"number\">2<"), "{services}");
    assert!(!section(&text, "hosts").contains("tcp/8080"), "it is no host that the program connected to");
    let report = rich::crawl(10);
    assert!(!page(&report).contains("id=\"services\""));
}

#[test]
fn the_policy_and_the_earlier_run_have_sections() {
    let report = rich::build();
    let context = Context::of(&report);
    let text = context.page(&report);
    let policy = section(&text, "policy");
    assert!(policy.contains("tcp/5432 to 198.51.100.50") && policy.contains("[[allow]]"), "{policy}");
    let changes = section(&text, "changes");
    assert!(changes.contains("run 1b0e (cargo build") && changes.contains(">appeared<"), "{changes}");
    assert!(markup(&text).contains("<span>before: "), "the figures of the earlier run are beside those of this one");
    let same = Context { before: report.clone(), ..Context::of(&report) };
    let same =
        Context { comparison: netwatch::diff::compare(&[&same.before], &[&report], &Default::default()), ..same };
    assert!(section(&same.page(&report), "changes").contains("Nothing differs."));
}

#[test]
fn tabs_copy_what_they_show() {
    let Some(mut browser) = Browser::start() else { return };
    browser.with_clipboard();
    let path = full_file("tabs.html", &rich::build());
    for screen in [DESKTOP, PHONE] {
        browser.open(&path, &screen);
        let tabs =
            browser.evaluate("[...document.querySelectorAll('#formats [role=tab]')].map((tab) => tab.textContent)");
        let names = netwatch::policy::RuleFormat::ALL.map(|format| json!(format.name()));
        assert_eq!(tabs, Value::Array(names.into()));
        for at in 0..names_of(&tabs) {
            let copied = browser.evaluate(&format!(
                "(async () => {{
                   const root = document.getElementById('formats');
                   root.querySelectorAll('[role=tab]')[{at}].click();
                   const status = root.querySelector('.copied');
                   // The status is cleared after a while, so its change is observed.
                   const said = new Promise((done) => {{
                     const observer = new MutationObserver(() => {{ if (status.textContent) done(status.textContent); }});
                     observer.observe(status, {{ childList: true, characterData: true, subtree: true }});
                   }});
                   root.querySelector('.copy').click();
                   const copied = await said;
                   const shown = [...root.querySelectorAll('pre')].filter((text) => text.checkVisibility());
                   const chosen = root.querySelector('[aria-selected=true]').textContent;
                   return [copied, shown.length, shown[0].innerText, await navigator.clipboard.readText(), chosen];
                 }})()"
            ));
            let [status, number, shown, copied, chosen] = serde_json::from_value::<[Value; 5]>(copied).unwrap();
            assert_eq!((status, number, &chosen), (json!("Copied"), json!(1), &tabs[at]));
            assert!(copied.as_str().unwrap().len() > 100, "{chosen}: {copied}");
            assert_eq!(copied.as_str().unwrap().trim_end(), shown.as_str().unwrap().trim_end(), "{chosen}");
        }
    }
    browser.evaluate("document.querySelector('#formats [role=tab][aria-selected=true]').focus()");
    browser.press("ArrowRight");
    assert_eq!(browser.evaluate("document.activeElement.textContent"), "table", "the arrow keys go round");
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}

fn names_of(tabs: &Value) -> usize {
    tabs.as_array().unwrap().len()
}

#[test]
fn rows_open_and_lead_to_their_connections() {
    let Some(mut browser) = Browser::start() else { return };
    let path = full_file("details.html", &rich::build());
    for (screen, dark) in [(DESKTOP, false), (PHONE, true)] {
        browser.open(&path, &Screen { dark, ..screen });
        browser.evaluate("document.querySelector('#hosts-table .toggle').click()");
        let parts =
            "[...document.querySelectorAll('#hosts-table .parts tbody tr')].map((row) => row.children[1].textContent)";
        assert_eq!(browser.evaluate(parts), json!(["tcp/443"]));
        browser.evaluate("document.querySelector('#hosts-table .details button').click()");
        browser.settle();
        let host = browser.evaluate("document.querySelector('#hosts-table tbody th').textContent");
        let remotes = "[...new Set([...document.querySelectorAll('#flows tbody th')].map((cell) => cell.textContent))]";
        assert_eq!(browser.evaluate(remotes), json!([host]));
        browser.evaluate("document.querySelector('#flows .chip').click()");
        browser.evaluate("document.querySelector('#services-table .toggle').click(); document.querySelector('#services-table .details button').click()");
        browser.settle();
        assert_eq!(browser.evaluate("document.querySelector('#flows [role=status]').textContent"), "1 of 33 rows");
        browser.evaluate("document.querySelector('#hosts-table .toggle').click()");
        assert_eq!(browser.evaluate("document.querySelectorAll('#hosts-table .details').length"), 0);
    }
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}
