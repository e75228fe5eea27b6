//! What the person at the terminal sees: steps, facts, progress. The toolbox's only home of printing.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// One plain line.
#[expect(clippy::print_stdout, reason = "the toolbox talks to a person")]
pub(crate) fn say(text: impl std::fmt::Display) {
    println!("{text}");
}

/// The reason why nothing more happens.
#[expect(clippy::print_stderr, reason = "the toolbox talks to a person")]
pub(crate) fn complain(failure: &crate::failure::Failure) {
    eprintln!("error: {failure}");
}

/// The beginning of a step that may take a while.
pub(crate) fn step(text: impl std::fmt::Display) {
    say(format_args!("==> {text}"));
}

/// One fact that was checked, with its figure.
pub(crate) fn fact(good: bool, name: &str, figure: impl std::fmt::Display) {
    say(format_args!("{}  {name}: {figure}", if good { "ok " } else { "BAD" }));
}

/// A line that is rewritten in place on a terminal, and printed only when it says something new elsewhere.
pub(crate) struct LiveLine {
    terminal: bool,
    shown: String,
}

impl LiveLine {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), shown: String::new() }
    }

    /// Shows `line`. Into a file or a pipe only lines whose `milestone` differs from the last are written,
    /// so that a log of a long run stays readable.
    pub(crate) fn show(&mut self, milestone: &str, line: &str) {
        if self.terminal {
            self.shown = milestone.to_owned();
            overwrite(line);
        } else if self.shown != milestone {
            self.shown = milestone.to_owned();
            say(line);
        }
    }

    /// Ends the line so that the next output starts on its own.
    pub(crate) fn finish(self) {
        if self.terminal && !self.shown.is_empty() {
            say("");
        }
    }
}

#[expect(clippy::print_stdout, reason = "the toolbox talks to a person")]
fn overwrite(line: &str) {
    print!("\r\x1b[2K{line}");
    // A terminal that went away is no reason to stop working.
    let _ = std::io::stdout().flush();
}

/// `[#####.....]  50 %`
pub(crate) fn bar(percent: u64) -> String {
    const CELLS: u64 = 30;
    let percent = percent.min(100);
    let filled = (percent * CELLS / 100) as usize;
    format!("[{}{}] {percent:3} %", "#".repeat(filled), ".".repeat(CELLS as usize - filled))
}

/// Seconds with one decimal, or minutes and seconds.
pub(crate) fn seconds(time: Duration) -> String {
    if time.as_secs() < 60 {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

/// Bytes in decimal units, as a bill counts them.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match UNITS.iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => {
            format!("{}.{:02} {unit}", count / size, count % size * 100 / size)
        }
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_like_figures() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.00 kB");
        assert_eq!(bytes(50_195_281), "50.19 MB");
        assert_eq!(bytes(2_000_000_001), "2.00 GB");
        assert_eq!(seconds(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(bar(0), format!("[{}]   0 %", ".".repeat(30)));
        assert_eq!(bar(250), format!("[{}] 100 %", "#".repeat(30)));
    }
}
