//! Small habits, checked: what rustfmt and clippy do not see.
//!
//! Each rule is a function from a file to complaints. Exceptions stand in `.config/tidy.toml` with a reason;
//! one that is no longer needed is a complaint too, so the list only shrinks.

mod rules;

use std::path::Path;

use serde::Deserialize;

use crate::failure::{Context, Failure, Outcome};
use crate::metadata::Metadata;
use crate::shell::{Call, root};
use crate::term;

/// Something a reader would stumble over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Complaint {
    path: String,
    /// The name an exception uses.
    rule: &'static str,
    /// Counted from 1; 0 for the whole file.
    line: usize,
    text: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    path: String,
    rule: String,
    reason: String,
}

/// Design notes that the house promises to its next owner.
const PROMISED: &[&str] = &[
    "ARCHITECTURE.md",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "edge-cache/store/DESIGN.md",
    "edge-cache/sourcing/DESIGN.md",
    "edge-cache/peer/DESIGN.md",
    "control-plane/logic/DESIGN.md",
];

/// Checks every file that git knows or would add.
///
/// # Errors
/// One line for each complaint.
pub(crate) fn run(metadata: &Metadata) -> Outcome {
    let listed = Call::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).quiet()?;
    let mut complaints = Vec::new();
    let mut files = 0;
    for path in listed.lines().filter(|path| rules::read_by_people(path)) {
        // A file that is deleted but not yet committed is still listed.
        let Ok(text) = std::fs::read_to_string(root().join(path)) else { continue };
        complaints.extend(rules::check(path, &text));
        files += 1;
    }
    complaints.extend(promises(&root()));
    complaints.extend(crates(metadata));
    let left = apply(&complaints, &exceptions()?);
    if !left.is_empty() {
        return Err(Failure::new(left.join("\n")));
    }
    term::say(format_args!("tidy: {files} files"));
    Ok(())
}

fn exceptions() -> Outcome<Vec<Exception>> {
    let path = root().join(".config/tidy.toml");
    let text = std::fs::read_to_string(&path).doing(path.display())?;
    let read: Exceptions = toml::from_str(&text).doing(path.display())?;
    Ok(read.exception)
}

fn apply(complaints: &[Complaint], exceptions: &[Exception]) -> Vec<String> {
    let covers = |e: &Exception, c: &Complaint| e.path == c.path && e.rule == c.rule && !e.reason.is_empty();
    let useless = exceptions.iter().filter(|e| !complaints.iter().any(|c| covers(e, c)));
    let useless = useless.map(|e| format!(".config/tidy.toml: no longer needed: {} {}", e.path, e.rule));
    let mut left: Vec<String> = useless.collect();
    let hard = complaints.iter().filter(|c| !exceptions.iter().any(|e| covers(e, c)));
    left.extend(hard.map(|c| format!("{}:{}: {} [{}]", c.path, c.line, c.text, c.rule)));
    left
}

fn promises(root: &Path) -> Vec<Complaint> {
    let absent = PROMISED.iter().filter(|path| !root.join(path).is_file());
    let complain = |path: &&str| Complaint {
        path: (*path).to_owned(),
        rule: "promised",
        line: 0,
        text: "this page is promised and missing".into(),
    };
    absent.map(complain).collect()
}

/// Every crate says what it is for, and no library has cargo features: each would double the legal builds.
fn crates(metadata: &Metadata) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let root = format!("{}/", root().display());
    for package in metadata.members() {
        let shown = |path: &str| path.strip_prefix(&root).unwrap_or(path).to_owned();
        if package.is_library() && !package.features.is_empty() {
            let text = format!("a library has no cargo features: {:?}", package.features.keys());
            complaints.push(Complaint {
                path: shown(&package.manifest_path),
                rule: "features",
                line: 0,
                text,
            });
        }
        let roots =
            package.targets.iter().filter(|target| target.kind.iter().any(|k| k == "lib" || k == "bin"));
        for target in roots {
            let text = std::fs::read_to_string(&target.src_path).unwrap_or_default();
            if !text.starts_with("//!") {
                let text = "the crate does not begin with what it is for".into();
                complaints.push(Complaint {
                    path: shown(&target.src_path),
                    rule: "crate-docs",
                    line: 1,
                    text,
                });
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(path: &str, rule: &'static str) -> Complaint {
        Complaint { path: path.into(), rule, line: 1, text: String::new() }
    }

    fn exception(path: &str, rule: &str, reason: &str) -> Exception {
        Exception { path: path.into(), rule: rule.into(), reason: reason.into() }
    }

    #[test]
    fn exceptions_cover_and_shrink() {
        let one = || vec![complaint("a.rs", "length")];
        assert!(apply(&one(), &[exception("a.rs", "length", "a table")]).is_empty());
        assert_eq!(
            apply(&one(), &[exception("a.rs", "length", "")]).len(),
            2,
            "an exception gives its reason"
        );
        assert_eq!(apply(&one(), &[exception("a.rs", "tab", "a table")]).len(), 2);
        assert_eq!(apply(&[], &[exception("a.rs", "length", "a table")]).len(), 1);
    }

    #[test]
    fn promises_are_checked() {
        let empty = tempfile::tempdir().expect("a folder");
        assert_eq!(promises(empty.path()).len(), PROMISED.len());
    }
}
