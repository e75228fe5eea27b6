//! The rules that look at one file.

use super::Complaint;

/// A file longer than this hides a second idea.
const MAX_LINES: usize = 700;

/// Written in two halves, so that this file obeys its own rule.
const LATER: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
const REGISTRIES: [&str; 5] = [
    concat!("crates", ".io"),
    concat!("py", "pi.org"),
    concat!("python", "hosted.org"),
    concat!("npm", "js.org"),
    concat!("npm", "js.com"),
];

/// Text that people write and read. Lock files, recorded data and licences are not ours to style.
pub(super) fn read_by_people(path: &str) -> bool {
    let written = ["rs", "toml", "md", "sh", "js", "css", "html", "yml", "yaml", "txt", "py"];
    let generated = ["Cargo.lock", "package-lock.json"].iter().any(|name| path.ends_with(name));
    let recorded = ["/golden/", "/fixtures/", "/data/", "/corpus/"].iter().any(|part| path.contains(part));
    let extension = path.rsplit_once('.').map(|(_, extension)| extension);
    !generated && !recorded && extension.is_some_and(|extension| written.contains(&extension))
}

/// Applies every rule to one file.
pub(super) fn check(path: &str, text: &str) -> Vec<Complaint> {
    let mut found = Found { path, complaints: Vec::new() };
    let lines = text.lines().count();
    if path.ends_with(".rs") && lines > MAX_LINES {
        found.add("length", 0, format!("{lines} lines, {MAX_LINES} are enough for one idea"));
    }
    for (at, line) in text.lines().enumerate() {
        check_line(&mut found, at + 1, line);
    }
    if path.ends_with(".rs") {
        unexplained_lints(&mut found, text);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        found.add("newline", lines, "the last line does not end".into());
    }
    found.complaints
}

struct Found<'a> {
    path: &'a str,
    complaints: Vec<Complaint>,
}

impl Found<'_> {
    fn add(&mut self, rule: &'static str, line: usize, text: String) {
        self.complaints.push(Complaint { path: self.path.to_owned(), rule, line, text });
    }
}

fn check_line(found: &mut Found<'_>, at: usize, line: &str) {
    if line.contains('\t') {
        found.add("tab", at, "a tab".into());
    }
    if line.ends_with([' ', '\r']) {
        found.add("trailing", at, "white space at the end of the line".into());
    }
    if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
        found.add("conflict", at, "a merge was left half done".into());
    }
    if let Some(word) = LATER.iter().find(|word| has_word(line, word)) {
        found.add("later", at, format!("{word}: do it now or write down the limit as it is"));
    }
    if let Some(host) = REGISTRIES.iter().find(|host| line.contains(*host)) {
        found.add(
            "registry",
            at,
            format!("names a package registry: {host}; the package clients know theirs"),
        );
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(letter) && !line[at + word.len()..].starts_with(letter))
}

/// A lint that yields says why, right there.
fn unexplained_lints(found: &mut Found<'_>, text: &str) {
    for opening in ["#[expect(", "#![expect(", "#[allow(", "#![allow("] {
        for (start, _) in text.match_indices(opening) {
            let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
            let attribute = text[start..].split(")]").next().unwrap_or_default();
            // Inside a string or a comment it is no attribute.
            if text[line_start..start].trim().is_empty() && !attribute.contains("reason = \"") {
                let line = text[..start].matches('\n').count() + 1;
                found.add("lint-reason", line, "a lint yields without a reason".into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(path: &str, text: &str) -> Vec<&'static str> {
        check(path, text).into_iter().map(|complaint| complaint.rule).collect()
    }

    #[test]
    fn each_rule_sees_what_it_is_for() {
        let long = "//\n".repeat(MAX_LINES + 1);
        let later = format!("// {} this\n", LATER[0]);
        let host = format!("fetch from https://{}/\n", REGISTRIES[1]);
        for (path, text, expected) in [
            ("a.rs", "fn a() {}\n", vec![]),
            ("a.rs", "fn a() {\n\tb()\n}\n", vec!["tab"]),
            ("a.toml", "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> b\n", vec!["conflict", "conflict"]),
            ("a.md", "one \n", vec!["trailing"]),
            ("a.md", "one\r\n", vec![]),
            ("a.md", "one", vec!["newline"]),
            ("a.md", "", vec![]),
            ("a.rs", later.as_str(), vec!["later"]),
            ("a.md", host.as_str(), vec!["registry"]),
            ("a.rs", long.as_str(), vec!["length"]),
            ("a.md", long.as_str(), vec![]),
            ("a.rs", "#[expect(dead_code)]\n", vec!["lint-reason"]),
            ("a.rs", "    #[allow(\n        dead_code\n    )]\n", vec!["lint-reason"]),
            ("a.rs", "#[expect(dead_code, reason = \"so\")]\n", vec![]),
            ("a.rs", "#[expect(\n    dead_code,\n    reason = \"so\"\n)]\n", vec![]),
            ("a.rs", "// write #[expect(dead_code)] here\n", vec![]),
        ] {
            assert_eq!(rules_of(path, text), expected, "{path}: {text:.60?}");
        }
    }

    #[test]
    fn words_are_whole_words() {
        assert!(has_word(concat!("a TO", "DO: b"), LATER[0]));
        assert!(!has_word(concat!("MASTO", "DON"), LATER[0]));
        assert!(!has_word(concat!("a_TO", "DO_b"), LATER[0]));
    }

    #[test]
    fn only_what_people_write() {
        for (path, expected) in [
            ("a/b.rs", true),
            ("README.md", true),
            ("Cargo.lock", false),
            ("deploy/tools/x/package-lock.json", false),
            ("tests/golden/a.txt", false),
            ("LICENSE", false),
            ("film.mp4", false),
        ] {
            assert_eq!(read_by_people(path), expected, "{path}");
        }
    }
}
