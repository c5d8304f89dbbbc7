//! The throughput so far: what is sent and what is received, side by side.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Styles, put, rate_text};
use crate::dashboard::model::Model;
use crate::format::summary::units::{bytes, count, plural};

/// The heights of a bar in a row.
const BARS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Two charts, each with a line of numbers above it.
pub(super) fn draw(model: &Model, buffer: &mut Buffer, area: Rect, styles: Styles) {
    let width = area.width / 2;
    let (now, (sent, received)) = (model.now, model.current_rates());
    let left = Rect { width: width.saturating_sub(1), ..area };
    let right = Rect { x: area.x + width, width: area.width - width, ..area };
    let head = |arrow: &str, rate, total| format!("{arrow} {}  {} in all", rate_text(rate), bytes(total));
    put(buffer, left, &head("↑", sent, now.totals.0.1), styles.sent());
    let failures = plural(now.failures, "failure", "failures");
    let facts = format!("{} of {} open, {failures}, {} lost", count(now.open), count(now.opened), count(now.lost));
    let received_text = head("↓", received, now.totals.1.1);
    put(buffer, right, &received_text, styles.received());
    // The facts stand behind the numbers where there is room, else above the chart of what is sent.
    let facts_width = super::text_width(&facts);
    let bars = |area: Rect| Rect { y: area.y + 1, height: area.height - 1, ..area };
    let free = right.width.saturating_sub(super::text_width(&received_text) + 2);
    let (facts_area, left_bars) = match facts_width <= free {
        true => (Rect { x: right.right() - facts_width, width: facts_width, ..right }, bars(left)),
        false => (Rect { y: left.y + 1, ..left }, Rect { y: left.y + 2, height: left.height - 2, ..left }),
    };
    let style = if now.failures + now.lost > 0 { styles.bad() } else { styles.plain() };
    put(buffer, facts_area, &facts, style);
    // One scale for both, so that they can be compared.
    let count = usize::from(right.width);
    let largest = model.rates.iter().rev().take(count).map(|(sent, received)| *sent.max(received)).max();
    let largest = largest.unwrap_or_default().max(1);
    draw_bars(model.rates.iter().rev().map(|rates| rates.0), largest, buffer, left_bars, styles.sent());
    draw_bars(model.rates.iter().rev().map(|rates| rates.1), largest, buffer, bars(right), styles.received());
}

/// Bars from the right, the newest first.
fn draw_bars(
    newest_first: impl Iterator<Item = u64>,
    largest: u64,
    buffer: &mut Buffer,
    area: Rect,
    style: ratatui::style::Style,
) {
    for (x, rate) in (area.x..area.right()).rev().zip(newest_first) {
        let steps = u128::from(area.height) * 8;
        let height = (u128::from(rate) * steps).div_ceil(u128::from(largest)).min(steps) as u16;
        for (level, y) in (0..).zip((area.y..area.bottom()).rev()) {
            let part = height.saturating_sub(level * 8).min(8);
            buffer.set_stringn(x, y, BARS[usize::from(part)], 1, style);
        }
    }
}
