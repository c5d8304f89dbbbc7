//! The page at work in a real browser: pictures are drawn, tables sort and search, themes change,
//! keys do what the mouse does.

use serde_json::json;

use super::browser::{Browser, DESKTOP, PHONE, Screen, TABLET};
use super::sample::{self, rich};
use super::{file, full_file, page};

/// How many different colours the canvases of an element have: 1 is blank.
const COLOURS: &str = "(root) => [...document.querySelectorAll(root + ' canvas')].map((canvas) => {
  const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return new Set(pixels).size;
})";

/// The texts of a column, as they are shown.
const COLUMN: &str =
    "(id, column) => [...document.querySelectorAll(`#${id} tbody tr`)].map((row) => row.children[column].textContent)";

#[test]
fn pictures_are_drawn_and_nothing_complains() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("works.html", &rich::build());
    browser.open(&path, &DESKTOP);
    for id in ["#plot-bytes", "#plot-packets", "#plot-flows", "#plot-latency"] {
        let colours = browser.evaluate(&format!("({COLOURS})('{id}')"));
        let colours: Vec<u64> = serde_json::from_value(colours).unwrap();
        assert!(colours.len() == 1 && colours[0] > 4, "{id}: {colours:?}");
    }
    let bars = browser.evaluate("document.querySelectorAll('.bins svg.bar').length").as_u64().unwrap();
    assert!(bars >= 8, "{bars}");
    let waterfall = "[...document.querySelectorAll('#flows .waterfall')].map((one) => [...one.children].map((bar) => [bar.className, bar.getBoundingClientRect().width > 0]))";
    let waterfall: Vec<Vec<(String, bool)>> = serde_json::from_value(browser.evaluate(waterfall)).unwrap();
    assert_eq!(waterfall.len(), 25, "a bar for each connection of the first page");
    assert!(waterfall.iter().all(|bars| !bars.is_empty() && bars.iter().all(|(_, is_shown)| *is_shown)));
    for kind in ["out", "in", "failed", "wait"] {
        assert!(waterfall.iter().flatten().any(|(class, _)| class == kind), "{kind}");
    }
    assert_eq!(browser.evaluate("document.querySelectorAll('.needs-script:not([hidden])').length"), 0);
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}

#[test]
fn charts_are_of_the_run_or_of_an_endpoint() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("charts.html", &rich::build());
    browser.open(&path, &DESKTOP);
    let labels = "Object.fromEntries(['bytes', 'flows', 'cpu'].map((id) => [id, document.querySelector(`#plot-${id} canvas`).getAttribute('aria-label')]))";
    let select = |browser: &mut Browser, choice: u32| {
        browser.evaluate(&format!(
            "(() => {{ const select = document.getElementById('charts-of'); select.selectedIndex = {choice};
             select.dispatchEvent(new Event('change')); return select.options[{choice}].textContent; }})()"
        ))
    };
    let whole = browser.evaluate(labels);
    assert!(whole["flows"].as_str().unwrap().contains("connections open at most"), "{whole}");
    let chosen = select(&mut browser, 1);
    assert!(chosen.as_str().unwrap().ends_with("tcp/443"), "{chosen}");
    let endpoint = browser.evaluate(labels);
    assert_eq!(endpoint["cpu"], whole["cpu"], "it is the command's");
    assert_ne!(endpoint["bytes"], whole["bytes"]);
    let flows = endpoint["flows"].as_str().unwrap();
    assert!(flows.contains("opened at most") && !flows.contains("connections open"), "only what is known: {flows}");
    select(&mut browser, 0);
    assert_eq!(browser.evaluate(labels), whole);
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}

#[test]
fn code_from_the_wire_does_not_run() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("hostile.html", &rich::hostile());
    browser.open(&path, &DESKTOP);
    assert_eq!(
        browser.evaluate("document.images.length + document.querySelectorAll('iframe, object, [onerror]').length"),
        0
    );
    assert_eq!(browser.evaluate("document.scripts.length"), 2);
    let shown = browser.evaluate("document.querySelector('#hosts-table tbody th').textContent");
    assert!(shown.as_str().unwrap().contains("</script><img src=x onerror=alert(1)>"), "{shown}");
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
    // The policy holds also against what would get into the page.
    browser.evaluate(
        "const script = document.createElement('script'); script.textContent = 'window.broken = 1'; document.body.append(script);
         document.body.insertAdjacentHTML('beforeend', '<img src=\"http://198.51.100.1/x.png\" onerror=\"window.broken = 2\">'); 1",
    );
    browser.settle();
    assert_eq!(browser.evaluate("typeof window.broken"), "undefined");
    let refused = browser.complaints(&path);
    assert!(refused.iter().any(|complaint| complaint.contains("Content Security Policy")), "{refused:?}");
    let blocked = browser.events("Network.loadingFailed").map(|failed| failed["blockedReason"].clone());
    assert_eq!(blocked.collect::<Vec<_>>(), ["csp"], "requested by the page, and blocked");
    assert_eq!(browser.events("Network.responseReceived").filter(|answer| answer["type"] != "Document").count(), 0);
}

#[test]
fn tables_sort_and_search() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("tables.html", &rich::build());
    browser.open(&path, &DESKTOP);
    let column = |browser: &mut Browser, at: usize| {
        let texts = browser.evaluate(&format!("({COLUMN})('hosts-table', {at})"));
        serde_json::from_value::<Vec<String>>(texts).unwrap()
    };
    let sort = |browser: &mut Browser, title: &str| {
        browser.evaluate(&format!(
            "[...document.querySelectorAll('#hosts-table thead button')].find((button) => button.textContent === '{title}').click()"
        ));
        column(browser, 0)
    };
    let began = column(&mut browser, 0);
    let up = sort(&mut browser, "Host");
    let ordered =
        json!(up).to_string() + ".toSorted(new Intl.Collator('en', { numeric: true, sensitivity: 'base' }).compare)";
    assert_eq!(browser.evaluate(&ordered), json!(up));
    assert_eq!(
        browser.evaluate("document.querySelector('#hosts-table [aria-sort]').getAttribute('aria-sort')"),
        "ascending"
    );
    let down = sort(&mut browser, "Host");
    assert_eq!(down, up.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(sort(&mut browser, "Host"), began, "a third click brings the first order back");
    for _ in 0..2 {
        sort(&mut browser, "Failed");
        let failed = column(&mut browser, 7);
        assert!(
            failed[0] == "1" && failed.last().unwrap() == "–",
            "what is not known comes last in both orders: {failed:?}"
        );
    }
    sort(&mut browser, "Received");
    assert_eq!(column(&mut browser, 5)[0], "5.61 MB");
    browser.evaluate(
        "const order = document.querySelector('#hosts-table .order'); order.value = '4'; order.dispatchEvent(new Event('change'))",
    );
    assert_eq!(
        browser.evaluate("document.querySelector('#hosts-table [aria-sort]').textContent"),
        "Sent",
        "cards are sorted without heads"
    );
    let search = |browser: &mut Browser, query: &str| {
        browser.evaluate(&format!(
            "{{ const input = document.querySelector('#hosts-table input'); input.value = {}; input.dispatchEvent(new Event('input')); }}",
            json!(query)
        ));
        column(browser, 0)
    };
    assert_eq!(search(&mut browser, "CRATES -static"), ["crates.example"]);
    let all = began.len();
    assert_eq!(
        browser.evaluate("document.querySelector('#hosts-table [role=status]').textContent"),
        format!("1 of {all} rows")
    );
    assert_eq!(search(&mut browser, "\"dns via 127\""), ["DNS via 127.0.0.53"]);
    assert_eq!(search(&mut browser, "198.51.100.21"), ["static.crates.example"], "an address of its endpoints");
    assert_eq!(search(&mut browser, "nowhere").len(), 0);
    assert_eq!(search(&mut browser, "").len(), all);
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}

#[test]
fn the_range_goes_for_all_pictures_and_the_flows() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("range.html", &rich::build());
    browser.open(&path, &DESKTOP);
    let rows = |browser: &mut Browser| browser.evaluate("document.querySelector('#flows [role=status]').textContent");
    let range = |browser: &mut Browser| browser.evaluate("document.getElementById('range').textContent");
    // A chart has whole pixels.
    let about = |range: &serde_json::Value, from: f64, to: f64| {
        let bounds: Vec<f64> =
            range.as_str().unwrap().split(' ').filter_map(|word| word.strip_prefix('+')?.parse().ok()).collect();
        assert!((bounds[0] - from).abs() < 0.01 && (bounds[1] - to).abs() < 0.01, "{range}");
    };
    let axis = |browser: &mut Browser| browser.evaluate("document.querySelector('#flows .axis').textContent");
    let whole = (range(&mut browser), rows(&mut browser), axis(&mut browser));
    assert_eq!((whole.0.as_str().unwrap(), whole.1.as_str().unwrap()), ("+0.000 s to +1.400 s", "33 rows"));
    let drag = |browser: &mut Browser, id: &str, from: f64, to: f64| {
        browser.evaluate(&format!(
            "document.getElementById('{id}').scrollIntoView({{ behavior: 'instant', block: 'center' }})"
        ));
        browser.settle();
        let over = browser.evaluate(&format!("(() => {{ const box = document.querySelector('#{id} .u-over').getBoundingClientRect(); return [box.left, box.top, box.width]; }})()"));
        let [left, top, width] = serde_json::from_value::<[f64; 3]>(over).unwrap();
        browser.drag((left + width * from, top + 30.0), (left + width * to, top + 30.0));
    };
    drag(&mut browser, "plot-bytes", 0.5, 0.75);
    about(&range(&mut browser), 0.7, 1.05);
    let some = rows(&mut browser);
    assert!(some.as_str().unwrap().ends_with(" of 33 rows"), "{some}");
    assert_ne!(axis(&mut browser), whole.2, "the bars are of the range");
    let chip = browser.evaluate("getComputedStyle(document.querySelector('#flows .chip')).display");
    assert_ne!(chip, "none", "the filter can be seen, and taken away");
    browser.evaluate("document.querySelector('[data-range=later]').click()");
    about(&range(&mut browser), 0.787, 1.137);
    browser.press("Escape");
    assert_eq!((range(&mut browser), rows(&mut browser), axis(&mut browser)), whole);
    drag(&mut browser, "plot-latency", 0.25, 0.5);
    about(&range(&mut browser), 0.35, 0.7);
    browser.evaluate("document.querySelector('#flows .chip').click()");
    browser.settle();
    assert_eq!((range(&mut browser), rows(&mut browser), axis(&mut browser)), whole);
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}

#[test]
fn percentiles_over_time_are_those_of_the_intervals() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("latency.html", &rich::crawl(1_000));
    browser.open(&path, &DESKTOP);
    let label = |browser: &mut Browser| {
        browser.evaluate("document.querySelector('#plot-latency canvas').getAttribute('aria-label')")
    };
    // Interval n has handshakes of 30, 40 and 50 ms and n times 10 µs.
    let text = label(&mut browser);
    assert!(text.as_str().unwrap().starts_with("Percentiles over time, from 30.0 ms to 50.3 ms."), "{text}");
    browser.evaluate("const measure = document.getElementById('measure'); measure.value = 'Round trip'; measure.dispatchEvent(new Event('change'))");
    let trip = label(&mut browser);
    assert!(trip.as_str().unwrap().starts_with("Percentiles over time, from "), "{trip}");
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}

#[test]
fn themes_follow_the_system_and_the_button() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("themes.html", &rich::build());
    for dark in [false, true] {
        browser.open(&path, &Screen { dark, ..DESKTOP });
        let ground = |browser: &mut Browser| browser.evaluate("getComputedStyle(document.body).backgroundColor");
        let theme = |browser: &mut Browser| browser.evaluate("document.documentElement.dataset.theme");
        let (first, before) = (ground(&mut browser), theme(&mut browser));
        assert_eq!(before, if dark { "dark" } else { "light" });
        let drawn = browser.evaluate("document.querySelector('#plot-bytes canvas').toDataURL()");
        browser.evaluate("document.getElementById('theme').click()");
        browser.settle();
        assert_ne!(ground(&mut browser), first);
        assert_ne!(theme(&mut browser), before);
        assert_ne!(
            browser.evaluate("document.querySelector('#plot-bytes canvas').toDataURL()"),
            drawn,
            "pictures change with it"
        );
        browser.evaluate("document.getElementById('theme').click(); localStorage.clear()");
        assert_eq!(theme(&mut browser), before);
    }
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}

#[test]
fn everything_is_labelled_and_has_contrast() {
    let Some(mut browser) = Browser::start() else { return };
    let path = full_file("access.html", &rich::build());
    for (dark, screen) in [(false, DESKTOP), (true, DESKTOP), (false, TABLET), (false, PHONE), (true, PHONE)] {
        browser.open(&path, &Screen { dark, ..screen });
        browser.evaluate(
            "document.querySelectorAll('details').forEach((part) => { part.open = true; });
             document.querySelectorAll('table').forEach((table) => table.querySelector('.toggle')?.click())",
        );
        let weak = browser.evaluate(include_str!("access.js"));
        assert_eq!(weak, json!([]), "dark: {dark}");
        if let Some(axe) = std::env::var_os("NETWATCH_AXE") {
            browser.evaluate(&(std::fs::read_to_string(axe).unwrap() + "; 1"));
            let found = "axe.run().then(({ violations, passes }) => [passes.length > 20, violations.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => html + failureSummary)])])";
            assert_eq!(browser.evaluate(found), json!([true, []]), "dark: {dark}");
        }
    }
}

#[test]
fn the_keyboard_reaches_everything() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("keys.html", &rich::build());
    browser.open(&path, &DESKTOP);
    browser.press("Tab");
    assert_eq!(browser.evaluate("document.activeElement.className"), "skip");
    browser.press("Enter");
    assert_eq!(browser.evaluate("location.hash"), "#main");
    let mut reached = Vec::new();
    for _ in 0..220 {
        browser.press("Tab");
        let name = browser.evaluate("(() => { const at = document.activeElement; const seen = getComputedStyle(at).outlineStyle !== 'none'; return `${at.tagName} ${at.closest('[id]')?.id ?? ''} ${seen}`; })()");
        reached.push(name.as_str().unwrap().to_owned());
    }
    for wanted in [
        "BUTTON formats-tab-0",
        "BUTTON formats",
        "INPUT hosts-table",
        "BUTTON hosts-table",
        "BUTTON time",
        "SUMMARY time",
        "SELECT measure",
        "INPUT flows",
        "SUMMARY diagnostics",
    ] {
        let found = reached.iter().find(|name| name.starts_with(wanted));
        assert!(found.is_some_and(|name| name.ends_with("true")), "{wanted} is not reached, or not seen: {reached:#?}");
    }
}

#[test]
fn ten_thousand_flows_are_smooth() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("ten-thousand.html", &rich::crawl(10_000));
    browser.open(&path, &DESKTOP);
    let took = browser.evaluate(
        "(() => {
           const clock = (work) => { const from = performance.now(); work(); return performance.now() - from; };
           const flows = document.getElementById('flows');
           const head = (title) => [...flows.querySelectorAll('thead button')].find((button) => button.textContent === title);
           const input = flows.querySelector('input');
           const search = (text) => { input.value = text; input.dispatchEvent(new Event('input')); };
           return {
             load: performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd,
             sort_text: clock(() => head('Remote').click()),
             sort_number: clock(() => head('Received').click()),
             first_search: clock(() => search('host-12')),
             search: clock(() => search('host-123')),
             percentiles: clock(() => { const measure = document.getElementById('measure'); measure.value = 'Round trip'; measure.dispatchEvent(new Event('change')); }),
           };
         })()",
    );
    let zoom = browser.evaluate(
        "new Promise((done) => {
           const from = performance.now();
           document.querySelector('[data-range=in]').click();
           requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - from)));
         })",
    );
    println!("milliseconds: {took}, to the frame after a zoom: {zoom}");
    assert!(zoom.as_f64().unwrap() < 10_000.0, "{zoom}");
    browser.evaluate("document.querySelector('[data-range=whole]').click()");
    browser.settle();
    // 100 ms are instant for a person. A machine that is busy with other tests may take many times
    // as long.
    for (what, limit) in [
        ("load", 30_000.0),
        ("sort_text", 10_000.0),
        ("sort_number", 10_000.0),
        ("first_search", 10_000.0),
        ("search", 10_000.0),
        ("percentiles", 10_000.0),
    ] {
        assert!(took[what].as_f64().unwrap() < limit, "{what}: {took}");
    }
    let found = browser.evaluate("document.querySelector('#flows [role=status]').textContent");
    assert_eq!(found, "33 of 10,000 rows");
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}

#[test]
fn a_capture_and_a_run_that_did_nothing_are_shown_too() {
    let Some(mut browser) = Browser::start() else { return };
    let table = sample::download();
    let capture = sample::named(sample::replayed(&table, netwatch::flow::Amount::default()), &table);
    let empty = sample::report(
        sample::facts(&netwatch::flow::FlowTable::default(), &["true"]),
        &netwatch::flow::FlowTable::default(),
    );
    for (name, report) in [("capture.html", capture), ("empty.html", empty)] {
        assert!(page(&report).contains("Nothing was recorded over time."));
        let path = file(name, &report);
        browser.open(&path, &PHONE);
        assert_eq!(browser.complaints(&path), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn without_javascript_it_can_be_read() {
    let Some(mut browser) = Browser::start() else { return };
    let path = file("no-script.html", &rich::build());
    browser.without_scripts();
    browser.load(&path, &DESKTOP);
    let text = browser.outer_html();
    assert!(
        text.contains("crates.example") && text.contains("needs-script") && text.contains("<summary>nft</summary>")
    );
    browser.screenshot(&super::place("no-script.png"));
    assert_eq!(browser.complaints(&path), Vec::<String>::new());
}
