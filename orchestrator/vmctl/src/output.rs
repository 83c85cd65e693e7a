//! What is printed, and how.

use std::io::{self, IsTerminal, Write};

use anyhow::{Error, Result};
use clap::ValueEnum;
use comfy_table::{Cell, Color, Row, Table};
use serde::Serialize;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs: the API's types; a list where several VMs were named, an object a line from logs and events
    Json,
}

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    /// Whether results alone are wanted.
    pub(crate) quiet: bool,
    /// Whether the reader sees colours.
    pub(crate) style: Style,
}

impl Output {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        // https://no-color.org: any value but an empty one.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let style = Style(io::stdout().is_terminal() && !refused && format == Format::Text);
        Self {
            format,
            quiet,
            style,
        }
    }

    /// Whether programs read.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints a result: `text` for people, the value itself for programs.
    pub(crate) fn result<T: Serialize + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        match self.format {
            Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(value)?)),
            Format::Text => print(&text()),
        }
    }

    /// Prints one of many results that come over time: a line for people, a line of JSON for programs.
    pub(crate) fn item<T: Serialize + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        match self.format {
            Format::Json => print(&format!("{}\n", serde_json::to_string(value)?)),
            Format::Text => print(&format!("{}\n", text())),
        }
    }

    /// Tells what is good to know and no result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("vmctl: {text}");
        }
    }
}

/// Writes to the standard output at once.
pub(crate) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes to the standard output at once.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Whether an error is no more than that our reader has had enough (`vmctl logs | head`).
pub(crate) fn reader_is_gone(error: &Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// An error and what it comes from, on one line.
pub(crate) fn one_line(error: &Error) -> String {
    printable(&format!("{error:#}").replace('\n', " "))
}

/// Words of a guest's, a registry's or a file's, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{FFFD}")
}

/// Whether words are coloured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style(pub(crate) bool);

impl Style {
    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Something less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Text in a colour of comfy-table's, so that a table and a page agree.
    pub(crate) fn color(self, color: Option<Color>, text: &str) -> String {
        match color {
            Some(Color::Green) => self.wrap("32", text),
            Some(Color::Yellow) => self.wrap("33", text),
            Some(Color::Red) => self.wrap("31", text),
            _ => text.to_owned(),
        }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A table without borders, as docker's.
    pub(crate) fn table(self, header: &[&str], rows: impl IntoIterator<Item = Row>) -> String {
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        if self.0 {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
            .set_header(header.iter().map(Cell::new))
            .add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
