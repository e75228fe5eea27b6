//! Answers as text for people. Programs use `--json`.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use control_api::explain::{Explanation, SourceView};
use control_api::rest::{Entitlement, PlaybackSession, RenditionView, TitleView};
use media::Tag;

/// All titles, one line each.
pub(crate) fn titles(list: &[TitleView]) -> String {
    if list.is_empty() {
        return "no titles yet; weir titles add takes one in\n".into();
    }
    let mut rows = vec![row(["TITLE", "STAGE", "DONE", "LENGTH", "NAME", "TAGS"])];
    rows.extend(list.iter().map(|view| {
        let (done, length) = (format!("{} %", view.progress_percent), length(view.duration_ms));
        let tags = tags(&view.tags).unwrap_or_else(|| "-".into());
        row([view.title.as_str(), view.stage.as_str(), &done, &length, &view.name, &tags])
    }));
    table(&rows)
}

/// One title with everything known about it.
pub(crate) fn title(view: &TitleView) -> String {
    let mut facts = vec![
        row(["title", view.title.as_str()]),
        row(["name", &view.name]),
        row(["stage", &format!("{} ({} %)", view.stage.as_str(), view.progress_percent)]),
    ];
    let mut add = |name: &str, value: Option<String>| facts.extend(value.map(|value| row([name, &value])));
    add("reason", view.reason.clone());
    add("package", view.package.map(|package| package.to_string()));
    add("length", (view.duration_ms > 0).then(|| length(view.duration_ms)));
    add("credit", view.attribution.clone());
    add("tags", tags(&view.tags));
    let mut text = table(&facts);
    if !view.renditions.is_empty() {
        let _ = write!(text, "\n{}", renditions(&view.renditions));
    }
    if !view.lint.is_empty() {
        let _ = write!(text, "\nthe package check says:\n  {}\n", view.lint.join("\n  "));
    }
    text
}

/// `licence-2026 vendor-acme`; nothing if there are none.
fn tags(list: &[Tag]) -> Option<String> {
    let words = list.iter().map(Tag::as_str).collect::<Vec<_>>().join(" ");
    Some(words).filter(|words| !words.is_empty())
}

fn renditions(list: &[RenditionView]) -> String {
    let mut rows = vec![row(["RENDITION", "KIND", "KBIT/S", "SEGMENTS", "BYTES"])];
    rows.extend(list.iter().map(|rendition| {
        let rate =
            if rendition.bandwidth == 0 { "-".into() } else { (rendition.bandwidth / 1000).to_string() };
        let (segments, bytes) = (rendition.segments.to_string(), rendition.bytes.to_string());
        row([rendition.id.as_str(), rendition.kind.as_str(), &rate, &segments, &bytes])
    }));
    table(&rows)
}

/// One line of a running ingest.
pub(crate) fn progress(view: &TitleView) -> String {
    let reason = view.reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default();
    format!("{:3} %  {}  {}{reason}\n", view.progress_percent, view.title, view.stage.as_str())
}

/// Rights, one line each.
pub(crate) fn entitlements(list: &[Entitlement]) -> String {
    if list.is_empty() {
        return "no rights\n".into();
    }
    let mut rows = vec![row(["TITLE", "KIND", "BOUGHT", "START BY", "FIRST PLAYED", "FINISH BY", "ID"])];
    rows.extend(list.iter().map(|right| {
        let times =
            [right.start_by, right.first_played_at, right.finish_by].map(|at| at.map_or("-".into(), time));
        let [start, played, finish] = times;
        let (title, kind, bought) = (right.title.as_str(), right.kind.as_str(), time(right.bought_at));
        row([title, kind, &bought, &start, &played, &finish, right.id.as_str()])
    }));
    table(&rows)
}

/// A session: what to do with it is to open the URL, so it stands alone on the last line.
pub(crate) fn session(session: &PlaybackSession) -> String {
    let PlaybackSession { session, url, expires_at, title, package, .. } = session;
    format!("session {session} for {title} ({package}), until {}\n{url}\n", time(*expires_at))
}

/// What a node has of a path, and whom it would ask for the rest, the first first.
pub(crate) fn explanation(said: &Explanation) -> String {
    let mut facts = vec![row(["node", &said.node]), row(["path", &said.path])];
    let mut add = |name: &str, value: String| facts.push(row([name, &value]));
    match said.bytes {
        Some(bytes) => add("object", format!("{}, {bytes} bytes of it", said.object)),
        None => add("object", said.object.clone()),
    }
    if let Some(tiers) = &said.tiers {
        add("memory", format!("{} of {} groups", tiers.memory, tiers.groups));
        add("disk", format!("{} of {} groups", tiers.disk, tiers.groups));
        let fill = if tiers.filling { "; a fill is under way" } else { "" };
        add("lacking", format!("{} bytes{fill}", tiers.lacking_bytes));
    }
    add("prices", format!("for {} bytes in one request", said.priced_bytes));
    format!("{}\n{}", table(&facts), sources(&said.sources))
}

fn sources(list: &[SourceView]) -> String {
    let mut rows = vec![row([
        "",
        "SOURCE",
        "KIND",
        "USD/GB",
        "USD/REQUEST",
        "USD",
        "STANDING",
        "FIRST BYTE P50/P95/P99",
        "FAILED",
        "WHY",
    ])];
    rows.extend(list.iter().enumerate().map(|(nth, view)| {
        let nth = view.reason.as_ref().map(|_| (nth + 1).to_string()).unwrap_or_default();
        let standing = match view.rest_ends_in_ms {
            Some(ms) => format!("{} for {ms} ms", view.standing),
            None => view.standing.clone(),
        };
        let quantiles = [view.first_byte_p50_ms, view.first_byte_p95_ms, view.first_byte_p99_ms];
        let quantiles = quantiles.map(|ms| ms.map_or("-".to_owned(), |ms| ms.to_string())).join("/");
        let first_byte = view.first_byte_ms.map_or("-".to_owned(), |_| format!("{quantiles} ms"));
        let failed = view.failed_percent.map_or("-".to_owned(), |percent| format!("{percent} %"));
        let why = view.reason.as_deref().unwrap_or("not asked");
        let prices = [view.usd_per_gb.as_str(), &view.usd_per_request, &view.usd];
        let [per_gb, per_request, all] = prices;
        row([&nth, &view.source, &view.kind, per_gb, per_request, all, &standing, &first_byte, &failed, why])
    }));
    table(&rows)
}

/// `2026-11-22T10:00:00Z`.
fn time(unix: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(unix));
    // The formatter stops at the year 9999; beyond it the number itself is the honest answer.
    at.filter(|_| unix < 253_402_300_800)
        .map_or_else(|| unix.to_string(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

/// `1:02:03`, or `-` while unknown.
fn length(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (milliseconds, hours) {
        (0, _) => "-".into(),
        (_, 0) => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(|cell| cell.chars().map(visible).collect()).to_vec()
}

/// A name with a line break or an escape sequence must not draw on the operator's terminal.
fn visible(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

/// Columns as wide as their widest cell, two spaces between them, no spaces at the end of a line.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_figures() {
        assert_eq!(length(0), "-");
        assert_eq!(length(59_999), "0:59");
        assert_eq!(length(596_474), "9:56");
        assert_eq!(length(7_384_000), "2:03:04");
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn columns_line_up_and_names_cannot_draw() {
        let rows = [row(["a", "bb"]), row(["ccc", "\u{1b}[2J"])];
        assert_eq!(table(&rows), "a    bb\nccc  \u{fffd}[2J\n");
        assert_eq!(table(&[]), "");
    }
}
