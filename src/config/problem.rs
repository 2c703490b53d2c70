//! What is wrong with a file, and how it is shown: to a person like a good compiler does, to a program as JSON.

use std::fmt;

use serde::Serialize;

/// One thing wrong with a file.
///
/// Never carries a secret: what came from `${ENV}` reads `${ENV}` here, a literal at a secret key reads `***`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's name as it was given.
    pub file: String,
    /// Line from 1; 0 when the file as a whole is meant (it cannot be read, it is too large).
    pub line: usize,
    /// Column from 1, in characters; 0 like `line`.
    pub column: usize,
    /// The line as written, shortened when it is very long and with secrets masked; empty when there is none.
    pub snippet: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead, if that is known.
    pub help: Option<String>,
    /// Where in the document, as in `routes[2].match.path`; empty for the whole file.
    pub path: String,
    /// Where the mark stands under the snippet, in characters from 0 (masks and cuts shift it away from `column`).
    #[serde(skip)]
    pub(super) caret: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.path.is_empty() {
            write!(f, " (in {})", self.path)?;
        }
        if !self.snippet.is_empty() {
            let gutter = self.line.to_string().len().max(4);
            write!(f, "\n{:>gutter$} | {}", self.line, self.snippet)?;
            write!(f, "\n{:>gutter$} | {:>caret$}^", "", "", caret = self.caret)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n     = help: {help}")?;
        }
        Ok(())
    }
}

/// Everything wrong with a file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The problems; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}\n")?;
        }
        match self.problems.len() {
            1 => f.write_str("1 problem"),
            count => write!(f, "{count} problems"),
        }
    }
}

impl std::error::Error for Report {}
