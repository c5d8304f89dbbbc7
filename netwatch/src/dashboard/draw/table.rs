//! The table of a view: heads, and the rows that fit.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Styles, put, text_width};
use crate::dashboard::rows::{Cell, Column, RowId, RowSource, View};
use crate::dashboard::state::Dashboard;

/// A column that is shown: its number, first column on the terminal, and width.
struct ShownColumn {
    number: usize,
    x: u16,
    width: u16,
}

/// The columns that a terminal of this width has room for.
fn columns(view: View, area: Rect) -> Vec<ShownColumn> {
    let all = view.columns();
    let is_shown = |column: &Column| column.from <= area.width;
    let fixed: u16 = all.iter().filter(|column| is_shown(column)).map(|column| column.width + 1).sum();
    let mut x = area.x;
    let mut shown = Vec::new();
    for (number, column) in all.iter().enumerate().filter(|(_, column)| is_shown(column)) {
        let width = if column.width == 0 { (area.width + 1).saturating_sub(fixed).max(8) } else { column.width };
        let width = width.min(area.right().saturating_sub(x));
        shown.push(ShownColumn { number, x, width });
        x = (x + width + 1).min(area.right());
    }
    shown
}

pub(super) fn draw(dashboard: &mut Dashboard, buffer: &mut Buffer, area: Rect, styles: Styles) {
    let shown = columns(dashboard.view, area);
    draw_heads(dashboard, buffer, Rect { height: 1, ..area }, &shown, styles);
    let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let rows = usize::from(body.height);
    let (selected, count) = (dashboard.selected_place(), dashboard.rows.len());
    let table = dashboard.table_mut();
    // The selected row is visible, and the last page is full.
    let offset = table.offset.clamp((selected + 1).saturating_sub(rows), selected).min(count.saturating_sub(rows));
    table.offset = offset;
    dashboard.places.heads = (area.y, shown.iter().map(|it| (it.x, it.x + it.width, it.number)).collect());
    dashboard.places.body = (body.y, body.height);
    let source = RowSource::new(dashboard.shown(), dashboard.view);
    for (y, row) in (body.y..body.bottom()).zip(dashboard.rows.iter().skip(offset)) {
        let is_selected = dashboard.table().selected == Some(*row);
        draw_row(&source, *row, is_selected, buffer, Rect { y, height: 1, ..body }, &shown, styles);
    }
    if count == 0 {
        let text = if dashboard.filter.is_empty() { empty(dashboard.view) } else { "no row contains the filter" };
        put(buffer, Rect { height: body.height.min(1), ..body }, text, styles.faint());
    }
}

fn empty(view: View) -> &'static str {
    match view {
        View::Endpoints | View::Connections => "no traffic so far",
        View::Processes => "no process used the network so far",
        View::Dns => "no DNS lookup so far",
        View::Failures => "no failed attempt so far",
        View::Losses => "no observation was lost so far",
        View::Output => "no output so far",
    }
}

fn draw_heads(dashboard: &Dashboard, buffer: &mut Buffer, area: Rect, shown: &[ShownColumn], styles: Styles) {
    let (sorted, is_descending) = dashboard.table().sort;
    for ShownColumn { number, x, width } in shown {
        let column = &dashboard.view.columns()[*number];
        let arrow = match (*number == sorted, is_descending) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        let text = format!("{arrow}{}", column.title);
        put_aligned(buffer, Rect { x: *x, width: *width, ..area }, &text, column.is_number, styles.head());
    }
}

fn draw_row(
    source: &RowSource<'_>,
    row: RowId,
    is_selected: bool,
    buffer: &mut Buffer,
    area: Rect,
    shown: &[ShownColumn],
    styles: Styles,
) {
    let style = match () {
        () if is_selected => styles.selected(),
        () if source.is_bad(row) => styles.bad(),
        () if source.is_over(row) => styles.faint(),
        () => styles.plain(),
    };
    if is_selected {
        buffer.set_style(area, style);
    }
    let view_columns = match row {
        RowId::Endpoint(_) => View::Endpoints,
        RowId::Flow(_) => View::Connections,
        RowId::Process(_) => View::Processes,
        RowId::Lookup(_) => View::Dns,
        RowId::Failure(_) => View::Failures,
        RowId::Loss(_) | RowId::Note(_) => View::Losses,
        RowId::Line(_) => View::Output,
    }
    .columns();
    for ShownColumn { number, x, width } in shown {
        let cell = source.cell(row, *number);
        let is_trend = matches!(cell, Cell::Trend(_));
        let style = if is_trend && !is_selected { styles.received() } else { style };
        let is_number = view_columns[*number].is_number;
        put_aligned(buffer, Rect { x: *x, width: *width, ..area }, &cell.text(), is_number, style);
    }
}

fn put_aligned(buffer: &mut Buffer, area: Rect, text: &str, is_right: bool, style: ratatui::style::Style) {
    let free = area.width.saturating_sub(text_width(text));
    let shift = if is_right { free } else { 0 };
    put(buffer, Rect { x: area.x + shift, width: area.width - shift, ..area }, text, style);
}
