//! Where this host's packages come from: those of its sources that have the release which recipes are for.

use std::fs;
use std::path::{Path, PathBuf};

/// Debian's release that recipes are written for.
pub(super) const RELEASE: &str = "bookworm";

/// What apt is told, and what the packages were when it was last told.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// In the form of `sources.list`.
    pub(super) lines: String,
    /// In the form of `*.sources`.
    pub(super) stanzas: String,
    /// The signed lists of what there is.
    pub(super) state: Vec<u8>,
}

impl Sources {
    /// Reads what the host has in `etc`, and in `lists`.
    pub(super) fn read(etc: &Path, lists: &Path) -> std::io::Result<Self> {
        let mut sources = Self::default();
        let mut files = vec![etc.join("sources.list")];
        files.extend(entries(&etc.join("sources.list.d"))?);
        for file in files {
            let extension = file.extension().and_then(|e| e.to_str());
            match (extension, fs::read_to_string(&file)) {
                (Some("list"), Ok(text)) => sources.lines.push_str(&lines(&text)),
                (Some("sources"), Ok(text)) => sources.stanzas.push_str(&stanzas(&text)),
                (_, Err(e)) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        for list in entries(lists)? {
            if list.to_string_lossy().ends_with("InRelease")
                && list.to_string_lossy().contains(RELEASE)
            {
                sources.state.extend(fs::read(&list)?);
            }
        }
        Ok(sources)
    }
}

/// What is in a folder, in order; nothing where there is none.
fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut list = Vec::new();
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                list.push(entry?.path());
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    list.sort();
    Ok(list)
}

/// Whether a suite is the release, or what it was mended by.
fn is_ours(suite: &str) -> bool {
    suite
        .strip_prefix(RELEASE)
        .is_some_and(|rest| ["", "-updates", "-security"].contains(&rest.trim_end_matches('/')))
}

/// The lines of the release.
fn lines(text: &str) -> String {
    let ours = |line: &&str| {
        // deb [options] where suite components
        let bare = match (line.find('['), line.find(']')) {
            (Some(from), Some(to)) if from < to => [&line[..from], &line[to + 1..]].concat(),
            _ => (*line).to_owned(),
        };
        let mut words = bare.split_whitespace();
        words.next() == Some("deb") && words.nth(1).is_some_and(is_ours)
    };
    let found = text.lines().filter(ours);
    found.map(|line| format!("{line}\n")).collect()
}

/// The stanzas of the release.
fn stanzas(text: &str) -> String {
    let mut found = String::new();
    for stanza in text.split("\n\n") {
        let suites = stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case("suites").then_some(value)
        });
        let mut suites = suites.unwrap_or_default().split_whitespace().peekable();
        if suites.peek().is_some() && suites.all(is_ours) {
            found.push_str(stanza.trim_matches('\n'));
            found.push_str("\n\n");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_release_counts() {
        let list = "deb http://mirror/debian bookworm main\n\
                    # deb http://mirror/debian bookworm contrib\n\
                    deb [signed-by=/k] http://mirror/security bookworm-security main\n\
                    deb http://mirror/tools tools-bookworm main\n\
                    deb-src http://mirror/debian bookworm main\n";
        assert_eq!(
            lines(list),
            "deb http://mirror/debian bookworm main\n\
             deb [signed-by=/k] http://mirror/security bookworm-security main\n"
        );
        let ours = "Types: deb\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\n";
        let other = "Types: deb\nURIs: http://mirror/other\nSuites: trixie\n";
        assert_eq!(stanzas(&format!("{other}\n{ours}")), format!("{ours}\n"));
    }
}
