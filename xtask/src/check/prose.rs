//! Comments, documents, messages and names: lines that fit into 100 columns, and no banned words.

use std::fs;

use proc_macro2::{TokenStream, TokenTree};

use super::comments::passages;
use super::sources::SourceFile;
use super::words::{BANNED, BANNED_IN_NAMES, EXCEPTIONS};
use crate::Result;
use crate::command::root;

/// The longest line of a comment or document, in characters.
pub const MAX_COLUMNS: usize = 100;
/// A line that contains a longer word (an address on the web) cannot be wrapped.
const MAX_WORD: usize = 60;

/// A Markdown file.
pub struct MarkdownFile {
    /// Path from the top of the repository, with `/`.
    pub path: String,
    /// The text of the file.
    pub text: String,
}

/// The files of this folder and their text: `*.md`, sorted.
fn documents_in(folder: &str) -> Result<Vec<MarkdownFile>> {
    let failed = |error: std::io::Error| format!("cannot read {folder}: {error}");
    let mut paths = Vec::new();
    for entry in fs::read_dir(root().join(folder)).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path.strip_prefix(root()).expect("the folder is in the repository").to_owned());
        }
    }
    paths.sort();
    let read = |path: std::path::PathBuf| {
        let text = fs::read_to_string(root().join(&path)).map_err(failed)?;
        Ok(MarkdownFile { path: path.to_string_lossy().into_owned(), text })
    };
    paths.into_iter().map(read).collect()
}

/// Every document of the repository.
pub fn documents() -> Result<Vec<MarkdownFile>> {
    let mut documents = documents_in("")?;
    documents.extend(documents_in("docs")?);
    Ok(documents)
}

/// Lines of comments and of prose that are too long.
pub fn long_lines(sources: &[SourceFile], documents: &[MarkdownFile]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let comments = source.text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        found.extend(comments.filter(|(_, line)| is_too_long(line)).map(|(at, line)| too_long(&source.path, at, line)));
    }
    for document in documents {
        let lines = prose_lines(&document.text).filter(|(_, line)| is_too_long(line));
        found.extend(lines.map(|(at, line)| too_long(&document.path, at, line)));
    }
    found
}

fn is_too_long(line: &str) -> bool {
    line.chars().count() > MAX_COLUMNS && line.split_whitespace().all(|word| word.chars().count() <= MAX_WORD)
}

fn too_long(path: &str, at: usize, line: &str) -> String {
    format!("{path}:{}: {} columns; at most {MAX_COLUMNS}", at + 1, line.chars().count())
}

/// The numbered lines of a document outside code blocks and tables.
fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.trim_start().starts_with('|')
    })
}

/// Banned words in comments, string literals, names and documents.
pub fn banned_words(sources: &[SourceFile], documents: &[MarkdownFile]) -> Vec<String> {
    let mut found = Vec::new();
    // The list of banned words contains them all, and the tests below some.
    let is_list = |source: &SourceFile| ["words.rs", "prose.rs"].iter().any(|name| source.path.ends_with(name));
    for source in sources.iter().filter(|source| !is_list(source)) {
        for passage in passages(&source.text) {
            found.extend(banned_in(&source.path, passage.line, &passage.text));
        }
        banned_names(&source.path, &source.tokens, &mut found);
    }
    for document in documents {
        found.extend(banned_in(&document.path, 1, &document.text));
    }
    found
}

/// Banned phrases in a text whose first line has this number.
fn banned_in(path: &str, first_line: usize, text: &str) -> Vec<String> {
    let mut words = String::new();
    let mut starts = Vec::new();
    for (line, content) in text.lines().enumerate() {
        for word in content.split_whitespace() {
            starts.push((words.len(), first_line + line));
            words += &word.to_lowercase();
            words.push(' ');
        }
    }
    let line_at = |at: usize| starts[starts.partition_point(|(start, _)| *start <= at).max(1) - 1].1;
    let mut found = Vec::new();
    let is_excepted = |phrase: &str| EXCEPTIONS.iter().any(|(file, word, _)| *file == path && *word == phrase);
    for (phrase, better) in BANNED.iter().filter(|(phrase, _)| !is_excepted(phrase)) {
        let matches = words.match_indices(phrase).filter(|(at, _)| is_whole(&words, *at, phrase.len()));
        found.extend(matches.map(|(at, _)| format!("{path}:{}: \"{phrase}\"; better: {better}", line_at(at))));
    }
    found
}

/// Whether no letter, digit or apostrophe touches the match.
fn is_whole(text: &str, at: usize, length: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    !text[..at].ends_with(is_word) && !text[at + length..].starts_with(is_word)
}

/// Banned words in identifiers, of which a name is one part.
fn banned_names(path: &str, tokens: &TokenStream, found: &mut Vec<String>) {
    for token in tokens.clone() {
        match token {
            TokenTree::Group(group) => banned_names(path, &group.stream(), found),
            TokenTree::Ident(name) => {
                let parts = parts(&name.to_string());
                let banned = BANNED_IN_NAMES.iter().filter(|(word, _)| parts.iter().any(|part| part == word));
                let line = name.span().start().line;
                found.extend(banned.map(|(_, better)| format!("{path}:{line}: the name `{name}`; better: {better}")));
            }
            _ => {}
        }
    }
}

/// The words of `snake_case`, `CamelCase` or `UPPER_CASE`, in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && was_lower) {
            parts.push(String::new());
        }
        was_lower = c.is_lowercase() || c.is_ascii_digit();
        if c != '_' {
            parts.last_mut().expect("it is never empty").extend(c.to_lowercase());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(code: &str) -> Vec<String> {
        banned_words(&[SourceFile::parse("x.rs", code).expect("code")], &[])
    }

    #[test]
    fn finds_banned_words_across_lines_and_in_names() {
        assert_eq!(words_of("// What is\n// said.\n").len(), 1);
        assert_eq!(words_of("fn f() { g(\"It is said.\") }").len(), 1);
        assert_eq!(words_of("fn f() { let sAid = unsaid; }").len(), 0);
        assert_eq!(words_of("const PATIENCE: u8 = 0; struct OfNobody; fn egress_amid_others() {}").len(), 3);
        assert!(words_of("\n\n// In\n// vain.")[0].starts_with("x.rs:3:"), "the line where the phrase begins");
    }

    #[test]
    fn finds_long_lines_of_prose() {
        let long = "word ".repeat(21);
        let document = |text: String| [MarkdownFile { path: "x.md".into(), text }];
        assert_eq!(long_lines(&[], &document(long.clone())).len(), 1);
        assert_eq!(long_lines(&[], &document(format!("```\n{long}\n```\n| {long} |\n"))).len(), 0);
        assert_eq!(long_lines(&[], &document(format!("{long} {}", "x".repeat(61)))).len(), 0);
        let source = SourceFile::parse("x.rs", &format!("    // {long}\n")).expect("code");
        assert_eq!(long_lines(&[source], &[]).len(), 1);
    }
}
