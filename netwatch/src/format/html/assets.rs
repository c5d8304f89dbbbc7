//! The script and style of the page, and the policy that allows only these.

use data_encoding::BASE64;
use ring::digest;

/// uPlot comes first because it defines the global that our scripts use. They define none.
pub(super) const SCRIPT: &str = concat!(
    include_str!("vendor/uPlot.iife.min.js"),
    "\n(() => {\n\"use strict\";\n",
    include_str!("assets/units.js"),
    include_str!("assets/dom.js"),
    include_str!("assets/range.js"),
    include_str!("assets/columns.js"),
    include_str!("assets/table.js"),
    include_str!("assets/plots.js"),
    include_str!("assets/waterfall.js"),
    include_str!("assets/percentiles.js"),
    include_str!("assets/tabs.js"),
    include_str!("assets/main.js"),
    "})();\n"
);

/// Narrow tables become lists of cards; a table of many columns does so earlier.
pub(super) const STYLE: &str = concat!(
    include_str!("vendor/uPlot.min.css"),
    "\n",
    include_str!("assets/report.css"),
    include_str!("assets/table.css"),
    "@container table (max-width: 560px) {\n",
    include_str!("assets/cards.css"),
    "}\n@container wide (max-width: 960px) {\n",
    include_str!("assets/cards.css"),
    "}\n",
    include_str!("assets/print.css"),
);

/// Content Security Policy Level 3: default-src 'none' blocks all network access, the hashes allow
/// our script and style.
pub(super) fn policy() -> String {
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

pub(in crate::format) fn hash(text: &str) -> String {
    BASE64.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendored_files_match_their_release() {
        let readme = include_str!("vendor/README.md");
        let files = [
            include_str!("vendor/uPlot.iife.min.js"),
            include_str!("vendor/uPlot.min.css"),
            include_str!("vendor/uPlot-LICENSE"),
        ];
        for file in files {
            let digest = digest::digest(&digest::SHA256, file.as_bytes());
            let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(readme.contains(&hex), "{hex} is not in vendor/README.md");
        }
    }

    #[test]
    fn assets_do_not_end_their_element() {
        // HTML, 4.12.1.3: a script or style must not contain these.
        for text in [SCRIPT, STYLE] {
            let lower = text.to_ascii_lowercase();
            assert!(!["</script", "<!--", "<script", "</style"].iter().any(|end| lower.contains(end)));
        }
    }
}
