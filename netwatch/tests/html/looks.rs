//! Pictures of the page, in both themes and at three widths: nothing is wider than the screen, and
//! the pictures are kept in the target directory for review by people.

use super::browser::{Browser, DESKTOP, PHONE, Screen, TABLET};
use super::sample::rich;
use super::{full_file, place};

/// Elements that reach beyond the right edge of the page, unless they scroll in a box of their own.
const BEYOND: &str = "[...document.querySelectorAll('main *')].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.right > innerWidth + 0.5 && !element.closest('pre, .sr, caption, thead');
  }).map((element) => element.outerHTML.slice(0, 120)).slice(0, 5)";

/// Tables that are wider than their container.
const WIDE_TABLES: &str =
    "[...document.querySelectorAll('.table')].filter((table) => table.scrollWidth > table.clientWidth + 1)
  .map((table) => `${table.id} ${table.scrollWidth} > ${table.clientWidth}`)";

const THEMES: [(&str, bool); 2] = [("light", false), ("dark", true)];

#[test]
fn pictures_in_both_themes_at_three_widths() {
    let Some(mut browser) = Browser::start() else { return };
    let pages = [
        ("build", rich::build()),
        ("crawl", rich::crawl(10_000)),
        ("hostile", rich::hostile()),
        ("long", rich::with_text("x".repeat(65_536).as_bytes())),
    ];
    for (name, report) in pages {
        let page = full_file(&format!("{name}.html"), &report);
        // The large pages look like the others.
        let themes: &[_] = if ["build", "hostile"].contains(&name) { &THEMES } else { &THEMES[..1] };
        for (on, screen) in [("desktop", DESKTOP), ("tablet", TABLET), ("phone", PHONE)] {
            for (theme, dark) in themes {
                browser.open(&page, &Screen { dark: *dark, ..screen });
                assert_eq!(browser.evaluate("document.documentElement.dataset.theme"), *theme);
                let wider = browser.evaluate("document.documentElement.scrollWidth - innerWidth").as_f64().unwrap();
                assert!(wider <= 0.0, "{name} on a {on} is {wider} wider than its screen");
                browser.screenshot(&place(&format!("{name}-{on}-{theme}.png")));
                browser.evaluate(
                    "document.querySelectorAll('details').forEach((part) => { part.open = true; });
                     document.querySelectorAll('.toggle').forEach((button, at) => { if (at % 5 === 0) button.click(); });",
                );
                browser.settle();
                for check in [BEYOND, WIDE_TABLES] {
                    assert_eq!(browser.evaluate(check), serde_json::json!([]), "{name} on a {on}");
                }
                if name == "build" {
                    browser.screenshot(&place(&format!("{name}-{on}-{theme}-open.png")));
                }
            }
        }
        let size = browser.print(&place(&format!("{name}.pdf")));
        assert!(size > 20_000, "{size} bytes of PDF");
        assert_eq!(browser.complaints(&page), Vec::<String>::new());
    }
}

#[test]
fn ports_are_on_the_screen_of_a_phone() {
    let Some(mut browser) = Browser::start() else { return };
    let page = full_file("phone.html", &rich::build());
    browser.open(&page, &PHONE);
    let outside = |browser: &mut Browser, selector: &str| {
        browser.evaluate(&format!(
            "[...document.querySelectorAll('{selector}')].map((cell) => [cell.textContent, cell.getBoundingClientRect()])
               .filter(([text, box]) => !(text.length > 0 && box.width > 20 && box.height > 8 && box.left >= 0 && box.right <= innerWidth))
               .map(([text]) => text)"
        ))
    };
    for selector in [
        "#ports-table tbody td[data-label=Port]",
        "#failures-table tbody td[data-label=Port]",
        "#hosts-table tbody td[data-label=Services]",
        "#services-table tbody th",
        "#flows tbody td[data-label=Service]",
    ] {
        let number = browser.evaluate(&format!("document.querySelectorAll('{selector}').length"));
        assert!(number.as_u64().unwrap() > 0, "{selector}");
        assert_eq!(outside(&mut browser, selector), serde_json::json!([]), "{selector}");
    }
}
