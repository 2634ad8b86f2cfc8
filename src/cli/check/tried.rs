//! What was tried, and what came of it.

use std::fmt::Display;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::domain::check::Broke;

/// One thing that was tried, or could not be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tried {
    area: &'static str,
    subject: String,
    came: Came,
    detail: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Ok,
    Wrong,
    NotTried,
}

impl Came {
    fn word(self) -> &'static str {
        match self {
            Came::Ok => "ok",
            Came::Wrong => "wrong",
            Came::NotTried => "not tried",
        }
    }
}

impl Tried {
    /// It was seen to work.
    pub(super) fn ok(area: &'static str, subject: impl Display, detail: impl Into<String>) -> Tried {
        Tried { area, subject: subject.to_string(), came: Came::Ok, detail: detail.into(), hint: None }
    }

    /// It does not work.
    pub(super) fn wrong(area: &'static str, subject: impl Display, broke: Broke) -> Tried {
        Tried { area, subject: subject.to_string(), came: Came::Wrong, detail: broke.error, hint: broke.hint }
    }

    /// It could not be tried, or need not be. Never counted as good.
    pub(super) fn not_tried(area: &'static str, subject: impl Display, why: impl Into<String>) -> Tried {
        Tried { area, subject: subject.to_string(), came: Came::NotTried, detail: why.into(), hint: None }
    }

    /// What came of it.
    pub(super) fn of(area: &'static str, subject: impl Display, result: Result<String, Broke>) -> Tried {
        match result {
            Ok(detail) => Tried::ok(area, subject, detail),
            Err(broke) => Tried::wrong(area, subject, broke),
        }
    }

    /// Whether it is wrong.
    pub(super) fn is_wrong(&self) -> bool {
        self.came == Came::Wrong
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "area": self.area,
            "subject": self.subject,
            "result": self.came.word().replace(' ', "_"),
            "detail": self.detail,
            "hint": self.hint,
        })
    }
}

/// How many are ok, wrong, not tried.
pub(super) fn count(tried: &[Tried]) -> (usize, usize, usize) {
    let of = |came: Came| tried.iter().filter(|one| one.came == came).count();
    (of(Came::Ok), of(Came::Wrong), of(Came::NotTried))
}

/// For people.
pub(super) fn table(tried: &[Tried], color: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(120);
    }
    for one in tried {
        let word = Cell::new(one.came.word());
        let word = match one.came {
            _ if !color => word,
            Came::Ok => word.fg(Color::Green),
            Came::Wrong => word.fg(Color::Red),
            Came::NotTried => word.fg(Color::Yellow),
        };
        let detail = match &one.hint {
            Some(hint) => format!("{}\nhint: {hint}", one.detail),
            None => one.detail.clone(),
        };
        table.add_row([Cell::new(one.area), Cell::new(&one.subject), word, Cell::new(detail)]);
    }
    format!("{}\n", table.trim_fmt())
}
