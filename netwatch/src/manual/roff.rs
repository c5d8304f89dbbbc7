//! A page of the manual in roff, for man(1): the macros of man(7), without a preprocessor.

use super::layout::table;
use super::markdown::{PageBlock, Styled, TextStyle, parse};

/// Width of tables, which fits into a terminal with 80 columns.
const TABLE_WIDTH: usize = 72;

/// What a manual page has besides its text.
pub(super) struct ManPage<'a> {
    pub name: &'a str,
    pub section: u8,
    pub about: &'a str,
    pub version: &'a str,
    pub see_also: &'a [String],
}

/// Renders a page.
pub(super) fn render(page: &str, head: &ManPage<'_>) -> String {
    let ManPage { name, section, about, version, .. } = head;
    let mut out = format!(".TH {} {section} \"\" \"{version}\"\n", escape(&name.to_uppercase()));
    out += &format!(".SH NAME\n{} \\- {}\n", escape(name), escape(about));
    let mut has_section = false;
    for block in parse(page) {
        let is_heading = matches!(block, PageBlock::Heading { .. });
        if !has_section && !matches!(block, PageBlock::Heading { level: 1, .. }) {
            has_section = true;
            out += if is_heading { "" } else { ".SH DESCRIPTION\n" };
        }
        write_block(&block, &mut out);
    }
    out + &see_also(head.see_also)
}

/// The section that names other pages: `netwatch-run(1)`.
pub(super) fn see_also(pages: &[String]) -> String {
    let pages: Vec<String> = pages
        .iter()
        .map(|page| {
            let (name, section) = page.split_once('(').unwrap_or((page, ""));
            format!(".BR {} ({section}", escape(name))
        })
        .collect();
    if pages.is_empty() { String::new() } else { format!(".SH SEE ALSO\n{}\n", pages.join(",\n")) }
}

fn write_block(block: &PageBlock, out: &mut String) {
    match block {
        // The section NAME replaces the title.
        PageBlock::Heading { level: 1, .. } => {}
        PageBlock::Heading { level, text } => {
            let text: String = text.iter().map(|(c, _)| c).collect();
            let (macro_name, text) = if *level == 2 { (".SH", text.to_uppercase()) } else { (".SS", text) };
            *out += &format!("{macro_name} {}\n", escape(&text));
        }
        PageBlock::Paragraph(text) => {
            begin_paragraph(out);
            *out += &format!("{}\n", styled(text));
        }
        PageBlock::Item { indent, marker, text } => {
            let marker = if marker == "-" { "\\(bu" } else { marker };
            let item = format!(".IP {marker} 3\n{}\n", styled(text));
            *out += &if *indent == 0 { item } else { format!(".RS {indent}\n{item}.RE\n") };
        }
        PageBlock::Table(rows) => unfilled(table(rows, TABLE_WIDTH).iter().map(styled), out),
        PageBlock::Code(lines) => unfilled(lines.iter().map(|line| format!("    {}", escape(line))), out),
    }
}

/// After a heading, a paragraph begins without a macro.
fn begin_paragraph(out: &mut String) {
    if !out.lines().last().is_some_and(|line| line.starts_with(".S")) {
        *out += ".PP\n";
    }
}

/// Lines that man(1) does not fill.
fn unfilled(lines: impl Iterator<Item = String>, out: &mut String) {
    begin_paragraph(out);
    *out += ".nf\n";
    for line in lines {
        *out += &protect(&line);
        out.push('\n');
    }
    *out += ".fi\n";
}

/// A text in one line, with fonts.
fn styled(text: &Styled) -> String {
    let mut line = String::new();
    for part in text.chunk_by(|(_, a), (_, b)| a == b) {
        let shown: String = part.iter().map(|(c, _)| c).collect();
        let shown = escape(&shown);
        line += &match part[0].1 {
            TextStyle::Plain => shown,
            TextStyle::Strong | TextStyle::Code => format!("\\fB{shown}\\fR"),
            TextStyle::Emphasis => format!("\\fI{shown}\\fR"),
        };
    }
    protect(&line)
}

/// Escapes the characters that roff interprets or replaces by typographic ones.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' => escaped += "\\e",
            '-' => escaped += "\\-",
            '\'' => escaped += "\\(aq",
            '^' => escaped += "\\(ha",
            '~' => escaped += "\\(ti",
            '`' => escaped += "\\(ga",
            '"' => escaped += "\\(dq",
            c => escaped.push(c),
        }
    }
    escaped
}

/// Escapes a dot at the start of a line, which would begin a macro.
fn protect(line: &str) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_macros_of_man() {
        let head = ManPage {
            name: "netwatch-x",
            section: 7,
            about: "it's x",
            version: "netwatch 1",
            see_also: &["netwatch(1)".into()],
        };
        let page = "# X\n\nText of `a-b`.\n\n## A part\n\n- one\n\n```\n.x \\n\n```\n\n| a |\n|---|\n| **b** |\n";
        let expected = ".TH NETWATCH\\-X 7 \"\" \"netwatch 1\"\n.SH NAME\nnetwatch\\-x \\- it\\(aqs x\n.SH DESCRIPTION\n\
            Text of \\fBa\\-b\\fR.\n.SH A PART\n.IP \\(bu 3\none\n.PP\n.nf\n    .x \\en\n.fi\n\
            .PP\n.nf\n\\fBa\\fR\n\\fBb\\fR\n.fi\n.SH SEE ALSO\n.BR netwatch (1)\n";
        assert_eq!(render(page, &head), expected);
    }

    #[test]
    fn a_dot_begins_no_macro() {
        assert_eq!(styled(&vec![('.', TextStyle::Plain), ('x', TextStyle::Plain)]), "\\&.x");
    }
}
