//! Files of variables, as docker's `--env-file`.
//!
//! A line is `KEY=VALUE`, or `KEY` for vmctl's own value of it, and nothing where it has none. What follows the first `=` is the value as it
//! stands: quotes are part of it. Lines that begin with `#` and empty ones are nothing.

use std::path::{Path, PathBuf};

/// Most bytes of a file: more than a guest takes.
const MOST: u64 = 1 << 20;

/// A file gives no variables.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvFileError {
    /// It cannot be read.
    #[error("the variables in {path} cannot be read", path = .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It is too long.
    #[error("{path} has {bytes} bytes, and a file of variables {MOST} at most", path = .path.display())]
    Long {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// A line of it is wrong.
    #[error("{path}, {wrong}", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        wrong: LineError,
    },
}

/// A line that is no variable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {key:?} is no variable's name")]
pub(crate) struct LineError {
    number: usize,
    key: String,
}

/// The variables in a file.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>, EnvFileError> {
    let told = |source| EnvFileError::Read(path.to_owned(), source);
    let bytes = std::fs::metadata(path).map_err(told)?.len();
    if bytes > MOST {
        let path = path.to_owned();
        return Err(EnvFileError::Long { path, bytes });
    }
    let text = std::fs::read_to_string(path).map_err(told)?;
    parse(&text, |key| std::env::var(key).ok()).map_err(|wrong| EnvFileError::Line {
        path: path.to_owned(),
        wrong,
    })
}

fn parse(
    text: &str,
    own: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, LineError> {
    let mut variables = Vec::new();
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (line.trim_end(), own(line.trim_end())),
        };
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || c == '\0') {
            return Err(LineError {
                number: index + 1,
                key: key.chars().take(100).collect(),
            });
        }
        variables.extend(value.map(|value| (key.to_owned(), value)));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_is_read_as_dockers() {
        let own = |key: &str| (key == "HOME").then(|| "/root".to_owned());
        let text = "\u{FEFF}# note\n\nA=1\n  B=two words \nC=\"x\"=y\nHOME\nUNSET\nD=\r\n";
        let read = parse(text, own).unwrap();
        let expected = [
            ("A", "1"),
            ("B", "two words "),
            ("C", "\"x\"=y"),
            ("HOME", "/root"),
            ("D", ""),
        ];
        assert_eq!(read, expected.map(|(k, v)| (k.into(), v.into())));
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number() {
        for (text, number) in [("A=1\n=x", 2), ("A B=1", 1), ("two words", 1)] {
            let wrong = parse(text, |_| None).unwrap_err();
            assert_eq!(wrong.number, number, "{text}");
        }
        let gone = read(Path::new("/nonexistent/env")).unwrap_err();
        assert!(gone.to_string().contains("/nonexistent/env"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            variables in proptest::collection::vec(("[A-Za-z_][A-Za-z0-9_.-]{0,8}", "[^\r\n]{0,12}"), 0..8),
        ) {
            let text: String = variables.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
            prop_assert_eq!(parse(&text, |_| None), Ok(variables));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = parse(&text, |_| None);
        }
    }
}
