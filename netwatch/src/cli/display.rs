//! The flags of tcpdump that select how packets are printed.

use clap::{ArgAction, Args};

use crate::packets::{DumpColumns, DumpStyle, LineStyle, TimeStyle};

#[derive(Debug, Args)]
#[command(next_help_heading = "Lines")]
pub(super) struct DisplayArgs {
    /// Do not print the names of remotes
    #[arg(short, long, action = ArgAction::Count)]
    numeric: u8,

    /// Times: -t none, -tt Unix, -ttt since the last line, -tttt with date
    ///
    /// By default the time of day. -ttttt is the time since the first line. All are in UTC.
    #[arg(short = 't', long = "time", action = ArgAction::Count)]
    time: u8,

    /// Print the fields of the IP header, and longer texts
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,

    /// Print the Ethernet header
    #[arg(short = 'e', long = "link")]
    link: bool,

    /// Print the bytes in hexadecimal; -xx with the Ethernet header
    #[arg(short = 'x', long = "hex", action = ArgAction::Count)]
    hex: u8,

    /// Print the bytes in hexadecimal and as text; -XX with the Ethernet header
    #[arg(short = 'X', long = "hex-text", action = ArgAction::Count)]
    hex_text: u8,

    /// Print the bytes as text; -AA with the Ethernet header
    #[arg(short = 'A', long = "text", action = ArgAction::Count)]
    text: u8,

    /// Print each line at once, as for a terminal
    #[arg(short = 'l', long)]
    line_buffered: bool,
}

impl DisplayArgs {
    /// Whether each line is printed at once.
    pub(super) fn is_line_buffered(&self) -> bool {
        self.line_buffered
    }

    /// `is_quiet` is the flag `-q`.
    pub(super) fn style(&self, is_quiet: bool) -> LineStyle {
        let dumps =
            [(self.text, DumpColumns::Text), (self.hex_text, DumpColumns::HexAndText), (self.hex, DumpColumns::Hex)];
        let dump = dumps.into_iter().find(|(times, _)| *times > 0);
        LineStyle {
            time: match self.time {
                0 => TimeStyle::TimeOfDay,
                1 => TimeStyle::None,
                2 => TimeStyle::Unix,
                3 => TimeStyle::SincePrevious,
                4 => TimeStyle::Date,
                _ => TimeStyle::SinceFirst,
            },
            is_verbose: self.verbose > 0,
            shows_link: self.link,
            is_quiet,
            is_numeric: self.numeric > 0,
            dump: dump.map(|(times, columns)| DumpStyle { columns, includes_link: times > 1 }),
        }
    }
}
