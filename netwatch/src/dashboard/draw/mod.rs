//! Draws a dashboard into a buffer.

mod chart;
mod details;
mod table;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::rows::{ConnectionScope, View};
use super::state::{Dashboard, Mode};
use crate::escape::escape;
use crate::format::summary::units::{bytes, count, duration};

/// Rows of the chart. A lower terminal has none.
const CHART_ROWS: u16 = 4;
const MIN_ROWS_FOR_CHART: u16 = 16;
/// A smaller terminal shows a message.
const MIN_SIZE: (u16, u16) = (40, 8);
const KEYS: &str = "? help  1-6 view  Enter open  f filter  / search  s sort  p pause  q quit";

/// The styles, without color if there is to be none.
#[derive(Debug, Clone, Copy)]
struct Styles {
    has_color: bool,
}

impl Styles {
    fn plain(self) -> Style {
        Style::default()
    }

    fn strong(self) -> Style {
        Style::default().add_modifier(Modifier::BOLD)
    }

    fn faint(self) -> Style {
        Style::default().add_modifier(Modifier::DIM)
    }

    fn selected(self) -> Style {
        Style::default().add_modifier(Modifier::REVERSED)
    }

    fn head(self) -> Style {
        self.colored(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn bad(self) -> Style {
        self.colored(Color::Red)
    }

    fn sent(self) -> Style {
        self.colored(Color::Magenta)
    }

    fn received(self) -> Style {
        self.colored(Color::Green)
    }

    fn colored(self, color: Color) -> Style {
        if self.has_color { Style::default().fg(color) } else { Style::default() }
    }
}

impl Dashboard {
    /// Draws everything into an empty buffer.
    pub fn draw(&mut self, buffer: &mut Buffer) {
        let area = buffer.area;
        let styles = Styles { has_color: self.has_color };
        if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
            let text = format!("the terminal needs {} columns and {} rows", MIN_SIZE.0, MIN_SIZE.1);
            put(buffer, Rect { height: 1, ..area }, &text, styles.plain());
            return;
        }
        let chart_rows = if area.height >= MIN_ROWS_FOR_CHART { CHART_ROWS } else { 0 };
        let row = |y: u16, height: u16| Rect { y: area.y + y, height, ..area };
        self.draw_title(buffer, row(0, 1), styles);
        self.draw_tabs(buffer, row(1, 1), styles);
        if chart_rows > 0 {
            chart::draw(self.shown(), buffer, row(2, chart_rows), styles);
        }
        let body = row(2 + chart_rows, area.height - 3 - chart_rows);
        match self.mode {
            Mode::Help => draw_help(buffer, body, styles),
            Mode::Details => details::draw(self, buffer, body, styles),
            Mode::Table | Mode::Filter | Mode::Search => table::draw(self, buffer, body, styles),
        }
        self.draw_foot(buffer, row(area.height - 1, 1), styles);
    }

    fn draw_title(&self, buffer: &mut Buffer, area: Rect, styles: Styles) {
        let model = self.shown();
        let seconds = model.now.duration_ns / 1_000_000_000;
        let elapsed = if seconds < 60 { format!("{seconds} s") } else { duration(seconds * 1_000_000_000) };
        let state = match (&model.ended, self.is_paused()) {
            (_, true) => "PAUSED".to_owned(),
            (Some(how), false) => format!("ended: {how}"),
            (None, false) => "live".to_owned(),
        };
        let cpu = model.cpu_percent.map_or_else(String::new, |percent| format!("CPU {percent} %  "));
        let memory = model.now.memory.map_or_else(String::new, |memory| format!("{}  ", bytes(memory)));
        let elapsed = format!("{elapsed}  {state}");
        // How the run ended matters more than what it used.
        let with_usage = format!("{cpu}{memory}{elapsed}");
        let right = if text_width(&with_usage) <= area.width / 2 { with_usage } else { elapsed };
        let right_width = text_width(&right).min(area.width / 2);
        let left = format!("{}  {}", model.run.id, model.run.command.join(" "));
        put(buffer, Rect { width: area.width - right_width - 2, ..area }, &escape(&left), styles.strong());
        let style = if self.is_paused() { styles.selected() } else { styles.plain() };
        put(buffer, Rect { x: area.right() - right_width, width: right_width, ..area }, &right, style);
    }

    fn draw_tabs(&mut self, buffer: &mut Buffer, area: Rect, styles: Styles) {
        let mut x = area.x;
        let mut places = Vec::new();
        for (number, view) in (1..).zip(self.views().iter().copied()) {
            let text = format!(" {number} {} ", view.title());
            let style = if view == self.view { styles.selected() } else { styles.plain() };
            let rest = Rect { x, width: area.right().saturating_sub(x), ..area };
            put(buffer, rest, &text, style);
            let end = x + text_width(&text);
            places.push((x, end.saturating_sub(1)));
            x = end.min(area.right());
        }
        self.places.tabs = (area.y, places);
    }

    /// The text that is typed, a message, or the keys; on the right what is not shown.
    fn draw_foot(&self, buffer: &mut Buffer, area: Rect, styles: Styles) {
        let left = match (self.mode, &self.message) {
            (Mode::Filter, _) => format!("filter: {}█", self.filter),
            (Mode::Search, _) => format!("search: {}█", self.search),
            (_, Some(message)) => message.clone(),
            _ if self.is_asking => "q again ends the run, any other key continues".to_owned(),
            (Mode::Help | Mode::Details, None) => "any key: back  q quit".to_owned(),
            (Mode::Table, None) => KEYS.to_owned(),
        };
        let right = self.restrictions();
        let right_width = text_width(&right).min(area.width);
        let is_message = self.is_asking || self.message.is_some() || matches!(self.mode, Mode::Filter | Mode::Search);
        let style = if is_message { styles.strong() } else { styles.faint() };
        let left_width = area.width - right_width - u16::from(right_width > 0 && right_width < area.width);
        put(buffer, Rect { width: left_width, ..area }, &escape(&left), style);
        let right_area = Rect { x: area.right() - right_width, width: right_width, ..area };
        put(buffer, right_area, &right, styles.strong());
    }

    /// What limits the rows of the view.
    fn restrictions(&self) -> String {
        let model = self.shown();
        let mut parts = Vec::new();
        if !self.filter.is_empty() && self.mode != Mode::Filter {
            parts.push(format!("filter {:?}", self.filter));
        }
        if self.view == View::Connections {
            match self.scope {
                Some(ConnectionScope::Endpoint(key)) => parts.push(format!("of {} {}", key.remote, key.service())),
                Some(ConnectionScope::Process(number)) => {
                    parts.push(format!("of {}", escape(&model.process_label(number))))
                }
                None => {}
            }
            if self.open_only {
                parts.push("open only".to_owned());
            }
            if model.dropped > 0 {
                parts.push(format!("without the {} oldest", count(model.dropped)));
            }
        }
        parts.join(", ")
    }
}

/// Columns that a text takes on the terminal.
fn text_width(text: &str) -> u16 {
    u16::try_from(ratatui::text::Line::raw(text).width()).unwrap_or(u16::MAX)
}

/// Writes a text into the first row of the area; what does not fit is cut off.
fn put(buffer: &mut Buffer, area: Rect, text: &str, style: Style) {
    if area.width > 0 && area.height > 0 {
        buffer.set_stringn(area.x, area.y, text, area.width.into(), style);
    }
}

/// `1.20 MB/s`.
fn rate_text(rate: u64) -> String {
    format!("{}/s", bytes(rate))
}

/// The keys and what they do.
const HELP: [(&str, &str); 15] = [
    ("1-6, Tab", "views; also a click on a tab"),
    ("Up Down j k", "select a row; PgUp, PgDn, Home, End, the wheel"),
    ("Enter", "connections of an endpoint or a process, details of a connection"),
    ("Esc", "back; clears the filter"),
    ("f \\ F4", "filter: only rows that contain a text"),
    ("/ F3", "search: select the next row that contains a text"),
    ("n N", "next and previous match"),
    ("s > F6", "sort by the next column; < by the previous one; click on a head"),
    ("r I", "reverse the order"),
    ("e", "connections: only open ones"),
    ("p Space", "freeze the moment; again to continue"),
    ("? h F1", "this help"),
    ("q F10 ^C", "quit; the run of `top` continues"),
    ("", ""),
    ("", "red: failed; faint: ended. Rates are bytes on the wire per second."),
];
/// Columns of the keys.
const KEY_WIDTH: u16 = 14;

fn draw_help(buffer: &mut Buffer, area: Rect, styles: Styles) {
    for (y, (keys, text)) in (area.y..area.bottom()).zip(HELP) {
        put(buffer, Rect { y, height: 1, ..area }, keys, styles.head());
        let rest = Rect { x: area.x + KEY_WIDTH, y, width: area.width - KEY_WIDTH, height: 1 };
        put(buffer, rest, text, styles.plain());
    }
}
