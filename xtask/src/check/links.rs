//! Links between documents: the file exists, and so does the heading.

use std::path::Path;

use super::prose::MarkdownFile;
use crate::command::root;

/// Links to files or headings that do not exist.
pub fn broken_links(documents: &[MarkdownFile]) -> Vec<String> {
    let mut found = Vec::new();
    for document in documents {
        let links = document.text.match_indices("](").filter_map(|(at, _)| document.text[at + 2..].split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.contains(char::is_whitespace)) {
            if let Some(reason) = problem(document, link, documents) {
                found.push(format!("{}: the link {link}: {reason}", document.path));
            }
        }
    }
    found
}

fn problem(document: &MarkdownFile, link: &str, documents: &[MarkdownFile]) -> Option<&'static str> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = Path::new(&document.path).parent().unwrap_or(Path::new(""));
    let path = normalize(&folder.join(file));
    let path = if file.is_empty() { document.path.clone() } else { path };
    if !root().join(&path).exists() {
        return Some("there is no such file");
    }
    let target = documents.iter().find(|target| target.path == path)?;
    let has_heading =
        |slug: &str| target.text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == slug);
    (!heading.is_empty() && !has_heading(heading)).then_some("there is no such heading")
}

/// The path without `..`, which the paths of documents do not contain.
fn normalize(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The anchor that GitHub gives a heading: lower case, without punctuation, spaces as hyphens.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_links_without_a_target() {
        let page = |path: &str, text: &str| MarkdownFile { path: path.into(), text: text.into() };
        let documents = [
            page(
                "README.md",
                "# A title (PREEMPT_RT)\n[good](docs/limits.md#on-older-kernels) [self](#a-title-preempt_rt)",
            ),
            page("docs/limits.md", "## On older kernels\n[up](../README.md) [web](https://example.org/x#y)"),
            page("docs/other.md", "[gone](gone.md) [no heading](limits.md#on-newer-kernels)"),
        ];
        let found = broken_links(&documents);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|line| line.starts_with("docs/other.md")));
    }
}
