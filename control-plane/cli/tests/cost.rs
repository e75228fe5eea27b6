//! `weir cost` as it is typed: a ledger becomes a bill in three notations, and what cannot be is said.
//!
//! Golden outputs lie in `tests/golden`; to write them anew after a wanted change, delete the file and run
//! the test twice.

use std::path::Path;
use std::process::{Command, Output};

use sourcing::meter::{Count, Ledger, Statement};
use sourcing::tariff::Dollars;

fn cost(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("cost").args(arguments).current_dir(folder).output().expect("the program runs")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let known = path.exists();
    if !known {
        std::fs::write(&path, found).expect("written");
    }
    assert!(known, "{name} was not there; it is now: read it, then run the test again");
    assert_eq!(found, std::fs::read_to_string(&path).expect("readable"), "{name} differs");
}

fn usd(text: &str) -> Dollars {
    text.parse().expect(text)
}

/// A node in Frankfurt, a closed October and a November that still runs.
fn ledger() -> Ledger {
    let count = |bytes, requests| Count { bytes, requests };
    let named =
        |rows: &[(&str, &str)]| rows.iter().map(|(id, amount)| ((*id).to_owned(), usd(amount))).collect();
    let sources =
        [("s3", count(7_000_000_000_000, 1_750_000)), ("peer-fra2", count(3_000_000_000_000, 800_000))];
    let sources = sources.map(|(id, count)| (id.parse().expect("a name"), count));
    let october = Statement {
        month: "2026-10".parse().expect("a month"),
        sheet: "00000000000000ff".to_owned(),
        sources: sources.clone().into(),
        delivered: count(1_000_000_000_000_000, 270_000_000),
        lines: named(&[
            ("aws.egress.internet.us", "578.39"),
            ("aws.s3.req.standard.get", "0.7"),
            ("node", "1450"),
        ]),
        baselines: named(&[
            ("list", "39500.25"),
            ("contract", "23700.15"),
            ("flat", "17000"),
            ("volume", "4500"),
        ]),
    };
    let mut ledger = Ledger::new("fra1".to_owned(), "eu".to_owned(), "2026-11".parse().expect("a month"));
    ledger.sheet = "0123456789abcdef".to_owned();
    ledger.lines = named(&[("node", "48.333333333333")]);
    ledger.past = vec![october];
    ledger
}

fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let json = serde_json::to_vec(&ledger()).expect("JSON");
    std::fs::write(folder.path().join("cost.json"), json).expect("written");
    folder
}

#[test]
fn a_month_in_three_notations() {
    let folder = world();
    for (format, name) in [("markdown", "cost.md"), ("csv", "cost.csv"), ("focus", "cost-focus.csv")] {
        let wish = ["report", "--ledger", "cost.json", "--month", "2026-10", "--format", format];
        let ran = cost(folder.path(), &wish);
        assert!(ran.status.success(), "{}", text(ran.stderr));
        golden(name, &text(ran.stdout));
    }
    let last = text(cost(folder.path(), &["report", "--ledger", "cost.json"]).stdout);
    assert!(last.starts_with("# Delivery of fra1 in 2026-11\n"), "the last month there is: {last}");
}

#[test]
fn an_access_log_is_enough() {
    let folder = world();
    let line = |bytes: u64, source: &str| {
        format!("{{\"time\":1793491200,\"bytes\":{bytes},\"outcome\":\"filled\",\"source\":\"{source}\"}}\n")
    };
    let log = [line(2_000_000_000_000, "s3"), line(1_000_000_000_000, "cdn"), "{\n".to_owned()].concat();
    std::fs::write(folder.path().join("fra1.log"), log).expect("written");
    let wish = ["report", "--access-log", "fra1.log", "--source", "s3=bunny.standard.na_eu"];
    let ran = cost(folder.path(), &wish);
    let report = text(ran.stdout);
    assert!(report.contains("| bunny.standard.na_eu | 20.00 |"), "{report}");
    assert!(report.contains("Handed to viewers: 3.000 TB in 2 requests."), "{report}");
    assert!(report.contains("1 lines of the log could not be read."), "{report}");
}

#[test]
fn what_cannot_be_is_said() {
    let folder = world();
    std::fs::write(folder.path().join("bad.toml"), "schema = 1\ncurrency = 'EUR'\n").expect("written");
    std::fs::write(folder.path().join("bad.json"), "{}").expect("written");
    for (wish, told) in [
        (vec!["report"], "--ledger"),
        (vec!["report", "--ledger", "absent.json"], "absent.json"),
        (vec!["report", "--ledger", "bad.json"], "bad.json: missing field"),
        (vec!["report", "--ledger", "cost.json", "--month", "2026-09"], "2026-10"),
        (vec!["report", "--ledger", "cost.json", "--month", "May"], "is no month"),
        (vec!["simulate", "--mau", "1000", "--prices", "bad.toml"], "line 2: currency: must be \"USD\""),
        (vec!["simulate", "--mau", "0"], "--mau must be 1 to"),
        (vec!["advise", "--mau", "1000", "--hit", "1.5"], "--hit is a share: 0 to 1"),
    ] {
        let ran = cost(folder.path(), &wish);
        let error = text(ran.stderr);
        assert!(!ran.status.success() && error.contains(told), "{wish:?}: {error}");
    }
}

#[test]
fn simulations_need_no_network_and_no_key() {
    let folder = world();
    let ran = cost(folder.path(), &["simulate", "--mau", "100000"]);
    let out = text(ran.stdout);
    assert!(out.contains("| CloudFront at list price | 93938 |"), "{out}");
    let ran = cost(folder.path(), &["advise", "--mau", "1000"]);
    assert!(text(ran.stdout).contains("**Do not deploy edges.**"));
}
