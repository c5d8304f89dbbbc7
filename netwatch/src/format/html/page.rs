//! The page, put together.

use super::data::{Data, Named};
use super::sections::{self, section};
use super::table::Table;
use super::{assets, balance, distribution, head, markup, tables};
use crate::report::{Report, Series};

/// Ids and titles of the sections, in their order: also the menu.
const MENU: [(&str, &str); 9] = [
    ("who", "Endpoints"),
    ("when", "Over time"),
    ("latency", "Latency"),
    ("dns", "DNS"),
    ("failed", "Failed"),
    ("tree", "Processes"),
    ("all-flows", "Flows"),
    ("balance", "Balance"),
    ("environment", "Environment"),
];

/// All of it.
pub(super) fn page(report: &Report, series: &Series) -> String {
    let tables = [
        tables::endpoints(report),
        tables::steps(report, series),
        tables::lookups(report),
        tables::attempts(report),
        tables::tree(report),
        tables::unix(report),
        tables::flows(report),
        tables::loopback(report),
    ];
    let named = tables.iter().map(|table| Named { id: table.id, caption: table.caption, table });
    let data = Data { length_ns: length_ns(report, series), tables: named.collect() };
    let title = head::title(report);
    [
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
             <meta name=\"referrer\" content=\"no-referrer\"><title>{}</title>\n<style>{}</style></head>\n<body>\n",
            assets::policy(),
            markup::text(&title),
            assets::STYLE
        ),
        "<a class=\"skip\" href=\"#main\">Skip to the endpoints</a>\n".to_owned(),
        head::header(report),
        menu(),
        "<main id=\"main\" tabindex=\"-1\">\n".to_owned(),
        head::figures(report),
        head::notes(report),
        body(report, series, &tables),
        "</main>\n<footer><p>Made by netwatch. This page is one file: it loads nothing and sends nothing.</p></footer>\n".to_owned(),
        data.html(),
        format!("<script>{}</script>\n</body></html>\n", assets::SCRIPT),
    ]
    .concat()
}

fn menu() -> String {
    let links: String = MENU.iter().map(|(id, title)| format!("<li><a href=\"#{id}\">{title}</a></li>")).collect();
    format!("<nav aria-label=\"Sections\"><ul>{links}</ul></nav>\n")
}

fn body(report: &Report, series: &Series, tables: &[Table; 8]) -> String {
    let [endpoints, steps, lookups, attempts, tree, unix, flows, loopback] = tables.each_ref().map(Table::html);
    let latency = format!(
        "<div class=\"pair\">{}{}</div>\n",
        distribution::connect_times(report),
        distribution::round_trips(report)
    );
    let contents = [
        ("Who it talked to", endpoints),
        ("Over time", sections::over_time(!series.intervals.is_empty(), &steps)),
        ("Latency", latency),
        ("DNS", lookups + &sections::names(report)),
        ("Tried in vain", attempts),
        (
            "Processes",
            format!(
                "{tree}<h3>Unix sockets</h3><p class=\"means\">Ways in which work leaves the program's network unseen. Which of them failed is known of runs with \
                 <code>--failed-calls</code> only.</p>{unix}"
            ),
        ),
        ("All flows", sections::folded(report) + &flows + &sections::localhost(report, &loopback)),
        ("Balance and losses", balance::verdict(report) + &balance::table(report) + &balance::losses(report)),
        ("Environment", sections::environment(report)),
    ];
    MENU.iter().zip(contents).map(|((id, _), (title, content))| section(id, title, &content)).collect()
}

/// From the start to the last thing that a picture shows.
fn length_ns(report: &Report, series: &Series) -> u64 {
    let began_ns = tables::began_ns(report);
    let duration_ns = report.replay.as_ref().map_or(report.run.duration_ns, |replay| replay.duration_ns);
    let flows = report.flows.iter().map(|known| known.flow.last_seen_ns.saturating_sub(began_ns));
    let steps = series.intervals.iter().map(|step| step.end_ns().saturating_sub(began_ns));
    flows.chain(steps).chain([duration_ns, 1]).max().unwrap_or(1)
}
