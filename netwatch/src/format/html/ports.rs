//! "Open these ports": what a firewall has to allow, as a table, and as texts to copy.

use std::fmt::Write;

use super::markup::{text, verbatim};
use super::table::{ColumnKind, HtmlCell, HtmlColumn, HtmlTable, column};
use crate::format::summary::text::command;
use crate::format::summary::units::bytes;

/// Bytes of a text on the page: the page stays small, and a longer text is not read on it.
const MAX_TEXT_BYTES: usize = 24 << 10;

/// The ports that a program needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PagePorts {
    /// `Network access required by curl`.
    pub title: String,
    /// One row per requirement.
    pub required: Vec<PagePort>,
    /// What was attempted, and every attempt failed.
    pub attempted: Vec<PagePort>,
    /// The same in each format of `netwatch ports`.
    pub texts: Vec<PortsText>,
    /// How the run is named on the command line.
    pub run: String,
}

/// A service of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PagePort {
    /// The host, or what stands for it; empty if only addresses are known.
    pub name: String,
    /// `tcp/443`.
    pub service: String,
    /// `HTTPS`, with `?` if only the port suggests it; empty if it is not known.
    pub purpose: String,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// How every attempt failed; empty for what is required.
    pub failures: String,
    /// The programs.
    pub programs: String,
    /// The addresses, each with a remark if it was not used.
    pub addresses: Vec<String>,
}

/// The requirements in one format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortsText {
    /// The name of the format on the command line.
    pub format: String,
    /// The text.
    pub text: String,
}

/// The table of requirements.
pub(super) fn required(ports: &PagePorts) -> HtmlTable {
    HtmlTable {
        id: "ports-table",
        caption: "Required ports",
        columns: columns().into(),
        rows: ports.required.iter().map(row).map(Vec::from).collect(),
        empty: "No network access is required.",
        ..HtmlTable::default()
    }
}

/// The table of what was only attempted: nothing shows that it is required.
pub(super) fn attempted(ports: &PagePorts) -> HtmlTable {
    let result = column("Result", ColumnKind::Bad, "how every attempt failed");
    HtmlTable {
        id: "attempted-table",
        caption: "Attempted only",
        columns: columns().into_iter().chain([result]).collect(),
        rows: ports
            .attempted
            .iter()
            .map(|port| row(port).into_iter().chain([HtmlCell::text(&port.failures)]).collect())
            .collect(),
        ..HtmlTable::default()
    }
}

fn columns() -> [HtmlColumn; 6] {
    [
        column("Host", ColumnKind::Text, "name, or address without one"),
        column("Port", ColumnKind::Code, "protocol and port of the service"),
        column("Direction", ColumnKind::Word, "outbound: the program connects"),
        column("Purpose", ColumnKind::Text, "with ?: guessed from the port"),
        column("Program", ColumnKind::Text, ""),
        column("Addresses", ColumnKind::Code, "not used: listed by DNS only; allow them too"),
    ]
}

fn row(port: &PagePort) -> [HtmlCell; 6] {
    let first = port.addresses.first().map_or("", String::as_str);
    [
        HtmlCell::text(if port.name.is_empty() { first } else { &port.name }),
        HtmlCell::text(&port.service),
        HtmlCell::text(&port.direction),
        HtmlCell::text(&port.purpose),
        HtmlCell::text(&port.programs),
        HtmlCell::text(port.addresses.join(", ")),
    ]
}

/// The texts, each collapsed; the script makes tabs of them.
pub(super) fn texts(ports: &PagePorts) -> String {
    let mut html = String::from("<div class=\"tabs\" id=\"formats\" data-label=\"Format\">\n");
    for (index, PortsText { format, text: content }) in ports.texts.iter().enumerate() {
        let open = if index == 0 { " open" } else { "" };
        let name = text(format);
        let content = shown(ports, format, content);
        // Writing to a String does not fail. A pre drops the first line feed (HTML, 13.1.2.5).
        let _ = writeln!(
            html,
            "<details class=\"tab\"{open}><summary>{name}</summary><pre tabindex=\"0\" aria-label=\"{name}\">\n{}</pre></details>",
            verbatim(&content)
        );
    }
    html + "</div>\n"
}

/// The text, or how to write it if it is too long.
fn shown(ports: &PagePorts, format: &str, content: &str) -> String {
    if content.len() <= MAX_TEXT_BYTES {
        return content.to_owned();
    }
    let length = bytes(content.len() as u64);
    let words = ["netwatch", "ports", &ports.run, "--format", format, "-o", "FILE"].map(str::to_owned);
    format!("# {length}, too long for this page. Write it to a file:\n{}\n", command(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_replaced_by_the_command_that_writes_it() {
        let texts = |text: String| {
            let format = PortsText { format: "nft".into(), text };
            texts(&PagePorts { texts: vec![format], run: "3f2a".into(), ..PagePorts::default() })
        };
        assert!(texts("table inet <x>\n\ta\n".into()).contains("table inet &lt;x&gt;\n\ta\n</pre>"));
        let long = texts("x".repeat(MAX_TEXT_BYTES + 1));
        assert!(long.contains("netwatch ports 3f2a --format nft -o FILE") && !long.contains("xxx"), "{long}");
    }
}
