//! The licenses of the crates that the program contains. Most of them require that their text goes
//! with every copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::stage::entries;
use super::{DistPlace, TARGET};
use crate::Result;
use crate::command::output;

/// How the names of files with licenses begin, in lower case.
const NAMES: [&str; 5] = ["license", "licence", "copying", "copyright", "notice"];

/// One text: every crate with its license, then each license text with the crates that have it.
pub fn collect(place: &DistPlace) -> Result<String> {
    let mut cargo = place.cargo();
    let metadata = output(cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let mut list = String::from("netwatch contains libpcap and these crates. The texts of their licenses follow.\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked_packages(&metadata) {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        list += &format!("{name}: {}\n", text("license"));
        let folder = Path::new(text("manifest_path")).parent().unwrap_or(Path::new(""));
        for license in license_texts(folder)? {
            texts.entry(license).or_default().push(name.clone());
        }
    }
    for (text, crates) in texts {
        list += &format!("\n{}\n{}\n\n{}\n", "=".repeat(80), crates.join(", "), text.trim());
    }
    Ok(list)
}

/// The packages of other authors that are linked into netwatch, by name.
fn linked_packages(metadata: &Value) -> Vec<&Value> {
    let list = |value: &'static str| metadata[value].as_array().into_iter().flatten();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let root = list("packages").find(|package| package["name"] == "netwatch" && package["source"].is_null());
    let mut open: Vec<&str> = root.and_then(|package| package["id"].as_str()).into_iter().collect();
    let mut seen: BTreeSet<&str> = open.iter().copied().collect();
    while let Some(id) = open.pop() {
        let Some(node) = nodes.get(id) else { continue };
        for dependency in node["deps"].as_array().into_iter().flatten() {
            // A dependency of a build or of tests has a kind.
            let is_linked =
                dependency["dep_kinds"].as_array().is_some_and(|all| all.iter().any(|one| one["kind"].is_null()));
            if let Some(id) = dependency["pkg"].as_str().filter(|id| is_linked && seen.insert(id)) {
                open.push(id);
            }
        }
    }
    let mut linked: Vec<&Value> = list("packages")
        .filter(|package| !package["source"].is_null() && package["id"].as_str().is_some_and(|id| seen.contains(id)))
        .collect();
    linked.sort_by_key(|package| package["name"].as_str().map(str::to_owned));
    linked
}

/// The license texts in the folder of a crate, and in the folders of the C libraries below it.
fn license_texts(folder: &Path) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in entries(folder)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if entry.is_dir() && !["src", "target", "tests"].contains(&name.as_str()) {
            let below = entries(&entry)?.into_iter().filter(|path| path.is_file() && is_license(path));
            texts.extend(below.filter_map(|path| fs::read_to_string(path).ok()));
        } else if entry.is_file() && is_license(&entry) {
            texts.extend(fs::read_to_string(&entry).ok());
        }
    }
    Ok(texts)
}

fn is_license(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    NAMES.iter().any(|start| name.starts_with(start)) && !name.ends_with(".rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_what_is_linked() {
        let package = |name: &str| serde_json::json!({ "name": name, "id": name, "source": "registry" });
        let dependency =
            |name: &str, kind: Option<&str>| serde_json::json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = serde_json::json!({
            "packages": [
                { "name": "netwatch", "id": "netwatch", "source": null },
                package("b"), package("a"), package("tests"), package("other"),
            ],
            "resolve": { "nodes": [
                { "id": "netwatch", "deps": [dependency("b", None), dependency("tests", Some("dev"))] },
                { "id": "b", "deps": [dependency("a", None), dependency("b", None)] },
                { "id": "other", "deps": [] },
            ] },
        });
        let names: Vec<_> = linked_packages(&metadata).into_iter().map(|package| &package["name"]).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
