//! A verdict in SARIF 2.1.0, the format of static analysis results that code hosts display. Each
//! result is at the line of the policy that it concerns.

use serde::Serialize;

use super::{CheckedPolicy, words};
use crate::format::json::escaped;

/// The kinds of results: identifier, description, level.
const KINDS: [(&str, &str, &str); 4] = [
    ("network-violation", "Network access that no rule of the policy allows", "error"),
    ("network-uncertain", "A lost observation that could hide a violation", "error"),
    ("policy-expired-rule", "A rule of the policy that has expired", "warning"),
    ("policy-unused-rule", "A rule of the policy that nothing matched", "note"),
];

pub(super) fn text(checked: &CheckedPolicy<'_>) -> String {
    let rules = KINDS.map(|(id, description, level)| SarifRule {
        id,
        short_description: SarifMessage { text: description.to_owned() },
        default_configuration: SarifLevel { level },
    });
    let driver = SarifDriver { name: "netwatch", version: env!("CARGO_PKG_VERSION"), rules: rules.into() };
    let run = SarifRun { tool: SarifTool { driver }, column_kind: "unicodeCodePoints", results: results(checked) };
    escaped::to_text(&SarifLog {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: vec![run],
    })
}

fn results(checked: &CheckedPolicy<'_>) -> Vec<SarifResult> {
    let verdict = checked.verdict;
    let uri = uri(checked.file);
    let result = |kind: usize, level: Option<&'static str>, line: usize, text: String, fingerprint: String| {
        let location = SarifLocation {
            physical_location: PhysicalLocation {
                artifact_location: ArtifactLocation { uri: uri.clone() },
                region: SarifRegion { start_line: line.max(1) },
            },
        };
        SarifResult {
            rule_id: KINDS[kind].0,
            rule_index: kind,
            level: level.unwrap_or(KINDS[kind].2),
            message: SarifMessage { text },
            locations: vec![location],
            partial_fingerprints: Fingerprints { subject: fingerprint },
        }
    };
    let violations = verdict.violations.iter().map(|violation| {
        let text = format!("{}.\n\nTo allow it, add:\n{}", words::sentence(checked, violation), violation.add);
        result(0, None, words::line(checked, violation), text, words::title(violation))
    });
    let level = verdict.allows_uncertain.then_some("warning");
    let uncertain = verdict.uncertain.iter().map(|text| result(1, level, 1, format!("{text}."), text.clone()));
    let expired = checked
        .rules(&verdict.expired)
        .map(|rule| result(2, None, rule.line, format!("The rule {rule} has expired."), rule.to_string()));
    let unused = checked
        .rules(&verdict.unused)
        .map(|rule| result(3, None, rule.line, format!("Nothing matched the rule {rule}."), rule.to_string()));
    violations.chain(uncertain).chain(expired).chain(unused).collect()
}

/// A path as a relative reference (RFC 3986): everything but plain characters is percent-encoded.
fn uri(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.strip_prefix("./").unwrap_or(path).bytes().map(encode).collect()
}

#[derive(Serialize)]
struct SarifLog {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: Vec<SarifRun>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifRun {
    tool: SarifTool,
    column_kind: &'static str,
    results: Vec<SarifResult>,
}

#[derive(Serialize)]
struct SarifTool {
    driver: SarifDriver,
}

#[derive(Serialize)]
struct SarifDriver {
    name: &'static str,
    version: &'static str,
    rules: Vec<SarifRule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifRule {
    id: &'static str,
    short_description: SarifMessage,
    default_configuration: SarifLevel,
}

#[derive(Serialize)]
struct SarifLevel {
    level: &'static str,
}

#[derive(Serialize)]
struct SarifMessage {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult {
    rule_id: &'static str,
    rule_index: usize,
    level: &'static str,
    message: SarifMessage,
    locations: Vec<SarifLocation>,
    partial_fingerprints: Fingerprints,
}

/// What stays the same from run to run, so that a code host recognizes a result.
#[derive(Serialize)]
struct Fingerprints {
    #[serde(rename = "subject/v1")]
    subject: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifLocation {
    physical_location: PhysicalLocation,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    region: SarifRegion,
}

#[derive(Serialize)]
struct ArtifactLocation {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifRegion {
    start_line: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("./ci/netwatch.toml"), "ci/netwatch.toml");
        assert_eq!(uri("a b%.toml"), "a%20b%25.toml");
    }
}
