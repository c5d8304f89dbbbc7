//! What a dashboard shows of its model, and what inputs change: the view, its order, the selected
//! row, filter and search.

use super::model::Model;
use super::rows::{ConnectionScope, RowId, RowSource, View};
use super::update::Update;

/// An input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A key was pressed.
    Key(Key),
    /// The left button was pressed at this column and row.
    Click(u16, u16),
    /// The wheel was turned, by rows downwards.
    Scroll(isize),
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the name of a key")]
pub enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Function(u8),
}

/// How one table is shown.
#[derive(Debug, Clone)]
pub struct TableState {
    /// The column that it is sorted by, and whether the largest value comes first.
    pub sort: (usize, bool),
    /// The selected row. It stays selected where the order changes.
    pub selected: Option<RowId>,
    /// The first row that is shown.
    pub offset: usize,
}

/// What keys mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Commands.
    Table,
    /// The text of the filter.
    Filter,
    /// The text of the search.
    Search,
    /// Any key closes the help.
    Help,
    /// The details of the selected row.
    Details,
}

/// Where things were drawn, for the mouse.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The row of the tabs, and the first and last column of each.
    pub tabs: (u16, Vec<(u16, u16)>),
    /// The row of the heads, and the columns of each with its number.
    pub heads: (u16, Vec<(u16, u16, usize)>),
    /// The first row of the table, and their number.
    pub body: (u16, u16),
}

/// A live view of a run.
#[derive(Debug)]
pub struct Dashboard {
    model: Model,
    /// The moment that is shown instead, while it is paused.
    frozen: Option<Box<Model>>,
    pub(super) view: View,
    tables: [TableState; View::ALL.len()],
    /// The rows of the view in order.
    pub(super) rows: Vec<RowId>,
    pub(super) scope: Option<ConnectionScope>,
    pub(super) open_only: bool,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) search: String,
    pub(super) has_color: bool,
    pub(super) places: Places,
    /// A message instead of the keys.
    pub(super) message: Option<String>,
    /// The command has no other terminal: its output is a view.
    has_output: bool,
    output_has_ended: bool,
    /// The view that is closed belongs to a run that would end with it.
    pub(super) is_asking: bool,
    is_closed: bool,
}

impl Dashboard {
    /// A dashboard without data.
    pub fn new(has_color: bool) -> Self {
        let table = |view: View| TableState { sort: view.default_sort(), selected: None, offset: 0 };
        Self {
            model: Model::default(),
            frozen: None,
            view: View::Endpoints,
            tables: View::ALL.map(table),
            rows: Vec::new(),
            scope: None,
            open_only: false,
            mode: Mode::Table,
            filter: String::new(),
            search: String::new(),
            has_color,
            places: Places::default(),
            message: None,
            has_output: false,
            output_has_ended: false,
            is_asking: false,
            is_closed: false,
        }
    }

    /// A dashboard of a command without another terminal, whose output it shows first.
    pub fn with_output(has_color: bool) -> Self {
        Self { has_output: true, view: View::Output, ..Self::new(has_color) }
    }

    /// The views that there are.
    pub(super) fn views(&self) -> &'static [View] {
        if self.has_output { &View::ALL } else { &View::ALL[..View::Output as usize] }
    }

    /// Adds output of the command.
    pub fn add_output(&mut self, output: &[u8]) {
        self.model.log.add(output);
        if self.frozen.is_none() && self.view == View::Output {
            self.refresh();
        }
    }

    /// Whether all output of the command was added.
    pub fn output_has_ended(&self) -> bool {
        self.output_has_ended
    }

    /// Whether the run has ended.
    pub fn has_ended(&self) -> bool {
        self.model.ended.is_some()
    }

    /// All output of the command was added. The run has ended, also if no update reported it.
    pub fn end_output(&mut self) {
        self.output_has_ended = true;
        self.model.ended.get_or_insert_with(|| "see its output".to_owned());
    }

    /// The newest lines of the output.
    pub fn last_output(&self, lines: usize) -> Vec<String> {
        let log = &self.model.log;
        (log.len().saturating_sub(lines)..log.len()).filter_map(|number| log.line(number)).collect()
    }

    /// Applies updates. Returns whether there is something new to draw.
    pub fn apply(&mut self, updates: impl IntoIterator<Item = Update>) -> bool {
        let mut is_due = false;
        for update in updates {
            is_due |= self.model.apply(update);
        }
        if is_due && self.frozen.is_none() {
            self.refresh();
        }
        is_due
    }

    /// Shows a message instead of the keys.
    pub fn set_message(&mut self, message: String) {
        self.message = Some(message);
    }

    /// Whether the user has closed it.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The model that is shown.
    pub fn shown(&self) -> &Model {
        self.frozen.as_deref().unwrap_or(&self.model)
    }

    /// Whether a moment is frozen.
    pub fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    pub(super) fn table(&self) -> &TableState {
        &self.tables[self.view as usize]
    }

    pub(super) fn table_mut(&mut self) -> &mut TableState {
        &mut self.tables[self.view as usize]
    }

    /// Finds the rows again, after a change of the data or of what is shown of it.
    fn refresh(&mut self) {
        let source = RowSource::new(self.shown(), self.view);
        let scope = self.scope.filter(|_| self.view == View::Connections);
        let previous_last = self.rows.last().copied();
        let rows = source.rows(scope, self.open_only, &self.filter.to_lowercase(), self.table().sort);
        self.rows = rows;
        let (first, last) = (self.rows.first().copied(), self.rows.last().copied());
        let (rows, is_output) = (&self.rows, self.view == View::Output);
        let table = &mut self.tables[self.view as usize];
        // New output is followed while its last line is selected.
        let is_following = is_output && (table.selected.is_none() || table.selected == previous_last);
        table.selected = match is_following {
            true => last,
            false => table.selected.filter(|row| rows.contains(row)).or(first),
        };
    }

    /// The place of the selected row.
    pub(super) fn selected_place(&self) -> usize {
        let selected = self.table().selected;
        self.rows.iter().position(|row| Some(*row) == selected).unwrap_or_default()
    }

    fn select(&mut self, place: usize) {
        let row = self.rows.get(place.min(self.rows.len().saturating_sub(1))).copied();
        self.table_mut().selected = row;
    }

    fn move_by(&mut self, rows: isize) {
        self.select(self.selected_place().saturating_add_signed(rows));
    }

    /// Shows another view.
    pub fn show(&mut self, view: View) {
        self.view = view;
        self.scope = None;
        self.mode = Mode::Table;
        // Nothing can be clicked before it is drawn.
        (self.places.heads, self.places.body.1) = Default::default();
        self.refresh();
    }

    /// Does what the input means.
    pub fn input(&mut self, input: Input) {
        self.message = None;
        let was_asking = std::mem::take(&mut self.is_asking);
        match (input, self.mode) {
            (Input::Key(key), Mode::Filter | Mode::Search) => self.edit(key),
            (Input::Key(_), Mode::Help) => self.mode = Mode::Table,
            (Input::Key(Key::Char('q') | Key::Function(10)), _) => {
                let is_over = !self.has_output || self.model.ended.is_some();
                self.is_closed = is_over || was_asking;
                self.is_asking = !self.is_closed;
            }
            (Input::Key(_), Mode::Details) => self.mode = Mode::Table,
            (Input::Key(key), Mode::Table) => self.command(key),
            (Input::Scroll(rows), _) => self.move_by(rows),
            (Input::Click(column, row), _) => self.click(column, row),
        }
    }

    fn command(&mut self, key: Key) {
        let page = isize::from(self.places.body.1.max(1) as i16);
        match key {
            Key::Up | Key::Char('k') => self.move_by(-1),
            Key::Down | Key::Char('j') => self.move_by(1),
            Key::PageUp => self.move_by(-page),
            Key::PageDown => self.move_by(page),
            Key::Home | Key::Char('g') => self.select(0),
            Key::End | Key::Char('G') => self.select(usize::MAX),
            Key::Tab | Key::Right => self.show_next(1),
            Key::BackTab | Key::Left => self.show_next(self.views().len() - 1),
            Key::Char(digit @ '1'..='7') => {
                let view = self.views().get(digit as usize - '1' as usize);
                view.copied().into_iter().for_each(|view| self.show(view));
            }
            Key::Enter => self.open(),
            Key::Escape | Key::Backspace => self.back(),
            Key::Char('?' | 'h') | Key::Function(1) => self.mode = Mode::Help,
            Key::Char('/') | Key::Function(3) => {
                self.search.clear();
                self.mode = Mode::Search;
            }
            Key::Char('n') => self.find(1),
            Key::Char('N') => self.find(self.rows.len().saturating_sub(1)),
            Key::Char('\\' | 'f') | Key::Function(4) => self.mode = Mode::Filter,
            Key::Char('s' | '>') | Key::Function(6) => self.sort_by_next(1),
            Key::Char('<') => self.sort_by_next(self.view.columns().len() - 1),
            Key::Char('r' | 'I') => self.change_sort(|(column, is_descending)| (column, !is_descending)),
            Key::Char('p' | ' ') => self.pause(),
            Key::Char('e') => {
                self.open_only = !self.open_only;
                self.refresh();
            }
            _ => {}
        }
    }

    fn show_next(&mut self, steps: usize) {
        let views = self.views();
        self.show(views[(self.view as usize + steps) % views.len()]);
    }

    /// Freezes the moment, or continues.
    fn pause(&mut self) {
        self.frozen = match self.frozen.take() {
            None => Some(Box::new(self.model.clone())),
            Some(_) => None,
        };
        self.refresh();
    }

    fn sort_by_next(&mut self, steps: usize) {
        let columns = self.view.columns();
        self.change_sort(|(column, _)| {
            let next = (column + steps) % columns.len();
            (next, columns[next].is_number)
        });
    }

    fn change_sort(&mut self, change: impl FnOnce((usize, bool)) -> (usize, bool)) {
        let table = self.table_mut();
        table.sort = change(table.sort);
        self.refresh();
    }

    /// From an endpoint or a process to its connections, from a connection to its details.
    fn open(&mut self) {
        let Some(row) = self.table().selected else { return };
        let scope = RowSource::new(self.shown(), self.view).scope_of(row);
        match (row, scope) {
            (RowId::Flow(_), _) => self.mode = Mode::Details,
            (_, Some(scope)) => {
                self.show(View::Connections);
                self.scope = Some(scope);
                self.filter.clear();
                self.select(0);
                self.refresh();
            }
            _ => {}
        }
    }

    fn back(&mut self) {
        match self.scope.take() {
            Some(ConnectionScope::Endpoint(_)) => self.show(View::Endpoints),
            Some(ConnectionScope::Process(_)) => self.show(View::Processes),
            None if !self.filter.is_empty() => {
                self.filter.clear();
                self.refresh();
            }
            None => {}
        }
    }

    /// A key while a text is typed.
    fn edit(&mut self, key: Key) {
        let is_filter = self.mode == Mode::Filter;
        let text = if is_filter { &mut self.filter } else { &mut self.search };
        match key {
            Key::Char(character) => text.push(character),
            Key::Backspace => _ = text.pop(),
            Key::Escape => {
                text.clear();
                self.mode = Mode::Table;
            }
            Key::Enter => self.mode = Mode::Table,
            _ => return,
        }
        match is_filter {
            true => self.refresh(),
            // Also the selected row can match.
            false => self.find(0),
        }
    }

    /// Selects the next row that contains the text of the search, from `steps` rows below on.
    fn find(&mut self, steps: usize) {
        let text = self.search.to_lowercase();
        let count = self.rows.len();
        if text.is_empty() || count == 0 {
            return;
        }
        let from = self.selected_place() + steps;
        let source = RowSource::new(self.shown(), self.view);
        // Backwards, the nearest row above is the last one that is reached downwards.
        let is_backwards = steps > 1;
        let order: Vec<usize> = match is_backwards {
            false => (from..from + count).map(|place| place % count).collect(),
            true => (from + 1..=from + count).rev().map(|place| place % count).collect(),
        };
        let found = order.into_iter().find(|place| source.contains(self.rows[*place], &text));
        match found {
            Some(place) => self.select(place),
            None => self.message = Some(format!("{text:?} was not found")),
        }
    }

    fn click(&mut self, column: u16, row: u16) {
        self.mode = Mode::Table;
        let Places { tabs, heads, body } = &self.places;
        if row == tabs.0 {
            let tab = tabs.1.iter().position(|(first, last)| (*first..=*last).contains(&column));
            tab.into_iter().for_each(|tab| self.show(self.views()[tab]));
        } else if row == heads.0 {
            let head = heads.1.iter().find(|(first, last, _)| (*first..=*last).contains(&column));
            let Some((_, _, clicked)) = head.copied() else { return };
            // Heads of another view, which was drawn last, can be more than this one has.
            let Some(is_number) = self.view.columns().get(clicked).map(|column| column.is_number) else { return };
            self.change_sort(|(sorted, is_descending)| match sorted == clicked {
                true => (clicked, !is_descending),
                false => (clicked, is_number),
            });
        } else if (body.0..body.0 + body.1).contains(&row) {
            let place = self.table().offset + usize::from(row - body.0);
            if place < self.rows.len() {
                // A second click opens the row.
                let is_selected = self.table().selected == self.rows.get(place).copied();
                self.select(place);
                if is_selected {
                    self.open();
                }
            }
        }
    }
}
