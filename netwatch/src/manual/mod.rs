//! The topics of the manual: pages of docs/ that are embedded in the program, for a terminal
//! (`netwatch help TOPIC`) and as man pages. The pages about subcommands are generated from the
//! command-line definitions (`cli`).

mod layout;
mod markdown;
mod roff;
mod text;

/// A page about a subject of several subcommands.
#[derive(Debug)]
pub(crate) struct Topic {
    /// TOPIC of `netwatch help TOPIC`. No name of a subcommand, whose flags `netwatch help` lists.
    pub name: &'static str,
    /// One line, without a full stop.
    pub about: &'static str,
    /// Markdown. The files in `netwatch/topics` are links to docs/, because a crate contains only
    /// its own folder.
    page: &'static str,
}

/// The section of the man pages about topics.
const SECTION: u8 = 7;

macro_rules! topics {
    ($($name:literal: $about:literal,)*) => {
        &[$(Topic { name: $name, about: $about, page: include_str!(concat!("../../topics/", $name)) },)*]
    };
}

/// Every topic.
pub(crate) const TOPICS: &[Topic] = topics! {
    "reference": "Exit codes, signals, files and environment variables",
    "formats": "Output formats of every subcommand",
    "firewall": "What a program needs a firewall to allow, as lists and rules (ports)",
    "checking": "Whether a program reached what a policy allows (check, learn)",
    "policy": "The file netwatch.toml: what a program may reach",
    "summary": "The text after a run, line by line",
    "json": "The JSON report, key by key",
    "recording": "Recorded runs: the store, the SQLite schema, export",
    "reports": "Recorded runs as text, tables, and a page (report)",
    "differences": "What changed between runs (diff)",
    "attaching": "What runs already: processes, containers, units, interfaces (attach)",
    "replaying": "Captures as runs (replay)",
    "thresholds": "Conditions under which a run fails",
    "packets": "The packets of a run as lines",
    "capture": "The packets of a run in a file",
    "events": "Connections as they open and end, as text or JSON lines",
    "benchmark": "Repeated runs, and whether two commands differ",
    "live": "A run while it lasts: status line, lines for logs, live view",
    "soak": "Runs of hours and weeks: findings and interim reports",
    "metrics": "Metrics for Prometheus",
    "ipfix": "Export of flows in IPFIX",
    "otlp": "Export of connections and metrics to OpenTelemetry",
    "fleet": "Agents on many machines",
    "ci": "GitHub Actions, GitLab and other CI systems",
    "install": "Installation, and what it needs",
    "security": "What netwatch may do, and what it protects",
    "accuracy": "What is exact, and how that is verified",
    "tutorial": "From a namespace by hand to one command",
    "limits": "What netwatch cannot see, and what it changes",
};

/// Names of topics that are parts of `reference`.
const PARTS_OF_REFERENCE: [&str; 4] = ["environment", "exit-codes", "files", "signals"];

impl Topic {
    /// The topic of this name, or the one that it is a part of.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        let name = if PARTS_OF_REFERENCE.contains(&name) { "reference" } else { name };
        TOPICS.iter().find(|topic| topic.name == name)
    }

    /// The page for a terminal of this width.
    pub(crate) fn text(&self, width: usize, color: bool) -> String {
        text::render(self.page, width, color)
    }

    /// The name of its man page: `netwatch-reference(7)`.
    pub(crate) fn man_name(&self) -> String {
        format!("netwatch-{}({SECTION})", self.name)
    }

    /// The man page in roff.
    pub(crate) fn man_page(&self) -> String {
        let others = TOPICS.iter().filter(|topic| topic.name != self.name).map(Self::man_name);
        let see_also: Vec<String> = std::iter::once("netwatch(1)".to_owned()).chain(others).collect();
        let (name, version) = (format!("netwatch-{}", self.name), concat!("netwatch ", env!("CARGO_PKG_VERSION")));
        let (section, about) = (SECTION, self.about);
        roff::render(self.page, &roff::ManPage { name: &name, section, about, version, see_also: &see_also })
    }
}

/// The section SEE ALSO of a man page about a subcommand, with all topics.
pub(crate) fn see_also() -> String {
    roff::see_also(&TOPICS.iter().map(Topic::man_name).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_a_page_that_fits_the_terminal() {
        for topic in TOPICS {
            let text = topic.text(80, false);
            assert!(text.lines().count() > 10, "{}", topic.name);
            // Code keeps its lines.
            let long: Vec<&str> =
                text.lines().filter(|line| line.chars().count() > 80 && !line.starts_with("    ")).collect();
            assert!(long.is_empty(), "{}: {long:?}", topic.name);
            let has_markup = |line: &&str| line.contains("](") || line.contains('`');
            let prose = text.lines().filter(|line| !line.starts_with("    "));
            assert_eq!(prose.filter(has_markup).collect::<Vec<_>>(), [""; 0], "{} has Markdown left", topic.name);
        }
    }

    #[test]
    fn the_manuals_that_the_help_names_are_topics() {
        for name in ["firewall", "checking", "differences", "attaching", "reports", "replaying", "fleet"] {
            assert!(Topic::find(name).is_some_and(|topic| topic.text(80, false).contains("netwatch")), "{name}");
        }
    }

    #[test]
    fn every_man_page_names_itself_and_the_others() {
        for topic in TOPICS {
            let page = topic.man_page();
            assert!(page.starts_with(&format!(".TH NETWATCH\\-{}", topic.name.to_uppercase().replace('-', "\\-"))));
            assert_eq!(page.matches(".BR netwatch").count(), TOPICS.len());
        }
    }
}
