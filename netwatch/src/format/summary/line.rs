//! Lines of styled text. Layout counts plain characters; color is added last, so it cannot shift a
//! column.

/// The meaning of a piece of text, which determines its color.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    #[default]
    Plain,
    Strong,
    Faint,
    Good,
    Warning,
    Bad,
}

impl Style {
    /// Parameters of the SGR sequence (ECMA-48, 8.3.117); only the eight colors that every palette
    /// defines.
    fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "1;31",
        }
    }
}

/// A line without its newline.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Line(Vec<(Style, String)>);

impl Line {
    pub fn new(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    #[must_use]
    pub fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// The line with its newline, without trailing spaces.
    pub fn paint(&self, color: bool) -> String {
        let mut painted = String::new();
        for (style, text) in &self.0 {
            match style.sgr() {
                sgr if color && !sgr.is_empty() && !text.trim().is_empty() => {
                    painted.push_str(&format!("\x1b[{sgr}m{text}\x1b[0m"));
                }
                _ => painted.push_str(text),
            }
        }
        painted.truncate(painted.trim_end().len());
        painted.push('\n');
        painted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_is_used_only_if_enabled() {
        let line = Line::new(Style::Faint, "lost ").with(Style::Plain, "0  ");
        assert_eq!(line.paint(false), "lost 0\n");
        assert_eq!(line.paint(true), "\x1b[2mlost \x1b[0m0\n");
    }
}
