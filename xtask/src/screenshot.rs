//! Makes the picture of the README: real output of netwatch in the simulated internet, as an SVG.

use std::fmt::Write as _;
use std::fs;

use netwatch_tests::addresses::{APP, REFUSED};
use netwatch_tests::{InternetShape, TestInternet};

use crate::command::root;
use crate::{Result, build};

/// Where the picture goes, from the top of the repository.
const FILE: &str = "docs/screenshot.svg";
/// Size of a character in pixels, with a font of 14 pixels.
const CHARACTER: (f64, f64) = (8.43, 19.0);
/// Pixels around the text.
const MARGIN: f64 = 18.0;

/// Runs the commands and writes the picture.
pub fn run() -> Result {
    if let Some(why) = netwatch_tests::missing() {
        return Err(format!("cannot create the test network: {why}"));
    }
    build::netwatch_for_tests()?;
    let net = TestInternet::start(InternetShape::default());
    let script = format!(
        "curl -sSk -o /dev/null https://{APP}/big\ncurl -s http://{APP}:{REFUSED}/status\nping -q -c 3 -i 0.1 {APP} > /dev/null"
    );
    fs::write(net.host.dir().join("check.sh"), script).map_err(|error| format!("cannot write a script: {error}"))?;
    let mut text = String::new();
    let scenes: [(&str, &[&str]); 2] = [
        ("sudo netwatch run -- sh check.sh", &["run", "--color", "always", "--", "sh", "check.sh"]),
        ("netwatch ports", &["ports"]),
    ];
    for (shown, words) in scenes {
        let output = net.host.command(net.host.binary()).args(words).output();
        let output = output.map_err(|error| format!("cannot start netwatch: {error}"))?;
        let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        text += &format!("\x1b[1m$ {shown}\x1b[0m\n{printed}\n");
    }
    let file = root().join(FILE);
    fs::write(&file, picture(text.trim_end())).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    println!("{FILE}");
    Ok(())
}

/// The text of a terminal as a picture.
fn picture(text: &str) -> String {
    let lines: Vec<Vec<ColoredText>> = text.lines().map(colored).collect();
    let columns = lines.iter().map(|line| line.iter().map(|part| part.text.chars().count()).sum::<usize>()).max();
    let width = columns.unwrap_or_default() as f64 * CHARACTER.0 + 2.0 * MARGIN;
    let height = lines.len() as f64 * CHARACTER.1 + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>\n\
         <g font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\" \
         fill=\"#d0d7de\">\n"
    );
    for (row, line) in lines.iter().enumerate() {
        let y = MARGIN + (row as f64 + 0.8) * CHARACTER.1;
        let mut column = 0;
        for part in line.iter().filter(|part| !part.text.is_empty()) {
            let length = part.text.chars().count();
            // The length keeps columns aligned in every font.
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{y:.1}\" textLength=\"{:.1}\"{}>{}</text>",
                MARGIN + column as f64 * CHARACTER.0,
                length as f64 * CHARACTER.0,
                part.attributes,
                escape(&part.text)
            );
            column += length;
        }
    }
    svg + "</g>\n</svg>\n"
}

/// A part of a line with one style.
struct ColoredText {
    attributes: String,
    text: String,
}

/// The parts of a line, by the escape sequences for styles (SGR, ECMA-48).
fn colored(line: &str) -> Vec<ColoredText> {
    let mut parts = line.split("\x1b[");
    let plain = ColoredText { attributes: String::new(), text: parts.next().unwrap_or_default().to_owned() };
    let styled = parts.map(|part| {
        let (codes, text) = part.split_once('m').unwrap_or(("", part));
        ColoredText { attributes: codes.split(';').map(attribute).collect(), text: text.to_owned() }
    });
    std::iter::once(plain).chain(styled).collect()
}

fn attribute(code: &str) -> &'static str {
    match code {
        "1" => " font-weight=\"bold\"",
        "2" => " fill=\"#8b949e\"",
        "31" => " fill=\"#ff7b72\"",
        "32" => " fill=\"#7ee787\"",
        "33" => " fill=\"#e3b341\"",
        "34" => " fill=\"#79c0ff\"",
        "36" => " fill=\"#76e3ea\"",
        _ => "",
    }
}

/// Browsers join spaces, but not these.
fn escape(text: &str) -> String {
    text.replace(' ', "\u{a0}").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_text_styles_and_columns() {
        let svg = picture("a \x1b[1;31m<b>\x1b[0m\nc");
        assert!(
            svg.contains(">a\u{a0}</text>") && svg.contains(" font-weight=\"bold\" fill=\"#ff7b72\">&lt;b&gt;</text>")
        );
        assert!(svg.contains(&format!("x=\"{:.1}\"", MARGIN + 2.0 * CHARACTER.0)) && !svg.contains('\x1b'));
    }
}
