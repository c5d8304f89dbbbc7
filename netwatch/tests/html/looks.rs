//! Pictures of the page, in both themes and at two widths: not empty, and kept in the target
//! directory for review by people.

use super::browser::{Browser, DESKTOP, PHONE, Screen};
use super::sample::rich;
use super::{file, place};

#[test]
fn pictures_in_both_themes_at_two_widths() {
    let Some(mut browser) = Browser::start() else { return };
    let pages = [("build", rich::build()), ("crawl", rich::crawl(10_000)), ("hostile", rich::hostile())];
    for (name, report) in pages {
        let page = file(&format!("{name}.html"), &report);
        for (on, screen) in [("desktop", DESKTOP), ("phone", PHONE)] {
            for (theme, dark) in [("light", false), ("dark", true)] {
                browser.open(&page, &Screen { dark, ..screen });
                assert_eq!(browser.evaluate("document.documentElement.dataset.theme"), theme);
                let wider = browser.evaluate("document.documentElement.scrollWidth - innerWidth").as_f64().unwrap();
                assert!(wider <= 0.0, "{name} on a {on} is {wider} wider than its screen");
                browser.screenshot(&place(&format!("{name}-{on}-{theme}.png")));
            }
        }
        let size = browser.print(&place(&format!("{name}.pdf")));
        assert!(size > 20_000, "{size} bytes of PDF");
        assert_eq!(browser.complaints(&page), Vec::<String>::new());
    }
}
