//! The software bill of materials (CycloneDX, JSON): cargo-cyclonedx makes it, libpcap is added,
//! and what differs between two builds is removed.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::libpcap::BuiltLibPcap;
use super::{DistPlace, TARGET, reproduce, version, write as write_file};
use crate::Result;
use crate::command::run;

/// Writes the document. Returns its path.
pub fn write(place: &DistPlace, libpcap: &BuiltLibPcap) -> Result<PathBuf> {
    // cargo-cyclonedx writes beside every manifest of the workspace, so it works on a copy.
    let copy = place.target.join("dist-sbom");
    reproduce::copy_sources(place, &copy)?;
    let mut cyclonedx = place.cargo();
    cyclonedx.current_dir(&copy).args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--no-build-deps"]);
    cyclonedx.args(["--target", TARGET, "--override-filename", "sbom", "--manifest-path", "netwatch/Cargo.toml"]);
    run(&mut cyclonedx)?;
    let made = copy.join("netwatch/sbom.json");
    let failed = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", made.display());
    let text = fs::read_to_string(&made).map_err(|error| failed(&error))?;
    let mut document: Value = serde_json::from_str(&text).map_err(|error| failed(&error))?;
    if let Some(components) = document["components"].as_array_mut() {
        components.push(libpcap.component()?);
    }
    make_reproducible(&mut document, &copy.display().to_string());
    let file = place.out().join(format!("netwatch-{}-{TARGET}.cdx.json", version()));
    write_file(&file, format!("{document:#}\n"))?;
    Ok(file)
}

/// Removes the number of the document, which is random, and the folder of the sources.
fn make_reproducible(document: &mut Value, folder: &str) {
    if let Some(fields) = document.as_object_mut() {
        fields.remove("serialNumber");
    }
    replace(document, &format!("{folder}/"), "");
}

fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) => *text = text.replace(from, to),
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, from, to)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_documents_of_the_same_sources_are_equal() {
        let mut document = serde_json::json!({
            "serialNumber": "urn:uuid:1", "components": [{ "bom-ref": "path+file:///a/b/netwatch#0.1.0" }],
        });
        make_reproducible(&mut document, "/a/b");
        assert_eq!(document, serde_json::json!({ "components": [{ "bom-ref": "path+file://netwatch#0.1.0" }] }));
    }
}
