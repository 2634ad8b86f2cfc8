//! What is wrong with the configuration, each with its place.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde_json::json;

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    path: PathBuf,
    place: Option<Place>,
    message: String,
    hint: Option<String>,
}

/// Where in a file.
#[derive(Clone, Debug)]
struct Place {
    shown: Arc<str>,
    span: Range<usize>,
}

impl Problem {
    /// With a file as a whole.
    pub(super) fn of_file(path: &Path, message: impl Into<String>, hint: &str) -> Problem {
        Problem { path: path.to_owned(), place: None, message: message.into(), hint: Some(hint.to_owned()) }
    }

    /// At a place. `shown` is the file's text with its secrets masked.
    pub(super) fn at(path: &Path, shown: &Arc<str>, span: Range<usize>, message: impl Into<String>) -> Problem {
        // A place must lie within what is shown, and on characters, whatever the parser said.
        let floor = |mut at: usize| {
            at = at.min(shown.len());
            while !shown.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let span = floor(span.start)..floor(span.end.max(span.start));
        // A table that spans many lines is told by its first.
        let first_line = shown[span.start..].find('\n').map_or(shown.len(), |at| span.start + at);
        let span = span.start..span.end.min(first_line.max(span.start));
        let place = Place { shown: Arc::clone(shown), span };
        Problem { path: path.to_owned(), place: Some(place), message: message.into(), hint: None }
    }

    /// With what to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    fn line_and_column(&self) -> Option<(usize, usize)> {
        let place = self.place.as_ref()?;
        let before = &place.shown[..place.span.start];
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((line, before[start..].chars().count() + 1))
    }

    fn offending(&self) -> Option<&str> {
        self.place.as_ref().map(|place| &place.shown[place.span.clone()]).filter(|text| !text.is_empty())
    }

    fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(110).with_context_lines(1);
        let source = self.place.as_ref().map(|place| {
            NamedSource::new(self.path.display().to_string(), place.shown.to_string()).with_language("TOML")
        });
        let report = Report { problem: self, source };
        let mut text = String::new();
        match handler.render_report(&mut text, &report) {
            // lifeboat's word for it, everywhere.
            Ok(()) => text.replacen("  help: ", "  hint: ", 1),
            // The drawing failed; what it says must be told all the same.
            Err(fmt::Error) => format!("{self}\n"),
        }
    }
}

impl fmt::Display for Problem {
    /// One line: `policies/orders.toml:3:8: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.line_and_column() {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A problem as miette draws it.
#[derive(Debug)]
struct Report<'a> {
    problem: &'a Problem,
    source: Option<NamedSource<String>>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem.place {
            Some(_) => f.write_str(&self.problem.message),
            None => fmt::Display::fmt(self.problem, f),
        }
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.problem.place.as_ref()?;
        let span = SourceSpan::new(place.span.start.into(), place.span.len());
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(Some("here".to_owned()), span))))
    }
}

/// A heap of problems that is still growing.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// One more.
    pub(super) fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Those of somebody who looked at other files.
    pub(super) fn append(&mut self, other: Problems) {
        self.0.extend(other.0);
    }

    /// How many so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, if there are any: file by file, each from top to bottom.
    pub(super) fn finish(self) -> Option<LoadErrors> {
        let mut problems = self.0;
        let mut files: HashMap<PathBuf, usize> = HashMap::new();
        for problem in &problems {
            let next = files.len();
            files.entry(problem.path.clone()).or_insert(next);
        }
        problems.sort_by_key(|problem| {
            (files.get(&problem.path).copied(), problem.place.as_ref().map(|place| place.span.start))
        });
        (!problems.is_empty()).then_some(LoadErrors { problems })
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug)]
pub struct LoadErrors {
    problems: Vec<Problem>,
}

impl LoadErrors {
    /// For people: each with file, line, column, the offending text and a hint.
    pub fn render(&self, color: bool) -> String {
        let count = match self.problems.len() {
            1 => "one thing is wrong".to_owned(),
            many => format!("{many} things are wrong"),
        };
        let mut text = format!("{count} with the configuration\n");
        for problem in &self.problems {
            text.push('\n');
            text.push_str(&problem.render(color));
        }
        text
    }

    /// For machines: an array of `{file, line, column, text, message, hint}`; lines and columns count from 1.
    pub fn json(&self) -> serde_json::Value {
        let one = |problem: &Problem| {
            let (line, column) = problem.line_and_column().unzip();
            json!({
                "file": problem.path.display().to_string(),
                "line": line,
                "column": column,
                "text": problem.offending(),
                "message": problem.message,
                "hint": problem.hint,
            })
        };
        self.problems.iter().map(one).collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for LoadErrors {
    /// One line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadErrors {}
