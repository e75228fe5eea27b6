//! Access logs as traces, so that operators can replay their own traffic.
//!
//! Two formats are read, told apart by each line: the access lines of a gateway (an object of JSON), and the
//! standard logs of CloudFront (tabs, with a `#Fields:` line before them). In the latter the last folder of the
//! path is taken for the rendition, everything before it for the title, and the last digits of the file's name
//! for the number of the segment.
//!
//! What is left out: requests that are no GET or brought no body, playlists, and packages of one file for
//! each rendition as a plain CDN sees them (every range of them has the same path).

use std::collections::HashMap;
use std::io::BufRead;

use media::Part;
use serde::Deserialize;

use super::{Raw, Stream, Trace, stream_key};

/// Why a log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file could not be read.
    #[error("the log cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// Nothing in it could be used.
    #[error(
        "none of the {lines} lines is a request for a segment; the first that was not understood: {example:?}"
    )]
    Nothing {
        /// Lines read.
        lines: usize,
        /// One of them.
        example: String,
    },
}

/// A log, and how much of it was understood.
#[derive(Debug)]
pub struct Log {
    /// The requests.
    pub trace: Trace,
    /// Lines that are a request for a segment.
    pub used: usize,
    /// Lines that are not.
    pub skipped: usize,
}

/// What one line says.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Unix seconds.
    time: u64,
    title: String,
    rendition: String,
    part: Part,
    bytes: u32,
}

/// Reads a log. The first `warm_share` of its time warms the policies up.
///
/// # Errors
/// [`LogError`]: it cannot be read, or holds nothing of use.
pub fn read_log(log: impl BufRead, warm_share: f64) -> Result<Log, LogError> {
    let (mut entries, mut fields, mut lines) = (Vec::new(), Vec::new(), 0);
    let mut example = String::new();
    for line in log.split(b'\n') {
        let line = line?;
        // A stranger's user agent may be anything.
        let line = String::from_utf8_lossy(&line);
        if let Some(names) = line.strip_prefix("#Fields:") {
            fields = names.split_whitespace().map(ToOwned::to_owned).collect();
        }
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        lines += 1;
        let entry = if line.starts_with('{') { gateway_line(&line) } else { cdn_line(&fields, &line) };
        match entry {
            Some(entry) => entries.push(entry),
            None if example.is_empty() => example = line.chars().take(120).collect(),
            None => {}
        }
    }
    if entries.is_empty() {
        return Err(LogError::Nothing { lines, example });
    }
    let used = entries.len();
    Ok(Log { trace: number(&entries, warm_share), used, skipped: lines - used })
}

fn number(entries: &[Entry], warm_share: f64) -> Trace {
    let begin = entries.iter().map(|entry| entry.time).min().unwrap_or_default();
    let (mut titles, mut renditions, mut numbers) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut streams = Vec::new();
    let mut raw = Vec::with_capacity(entries.len());
    for entry in entries {
        let next = titles.len();
        let title = *titles.entry(entry.title.as_str()).or_insert(next);
        let next = renditions.len();
        let rendition = *renditions.entry(entry.rendition.as_str()).or_insert(next);
        let stream = *numbers.entry((title, rendition)).or_insert_with(|| {
            streams.push(stream_key(title, rendition));
            Stream(streams.len() as u32 - 1)
        });
        let tenths = u32::try_from((entry.time - begin) * 10).unwrap_or(u32::MAX);
        raw.push(Raw { tenths, stream, part: entry.part, bytes: entry.bytes });
    }
    let last = raw.iter().map(|request| request.tenths).max().unwrap_or_default();
    Trace::new(streams, raw, (f64::from(last) * warm_share) as u32)
}

/// What a gateway's access line says of a request; the other fields do not matter here.
#[derive(Deserialize)]
struct GatewayLine {
    time: u64,
    method: String,
    title: Option<String>,
    package: Option<String>,
    rendition: Option<String>,
    part: Option<String>,
    bytes: u64,
}

fn gateway_line(line: &str) -> Option<Entry> {
    let read: GatewayLine = serde_json::from_str(line).ok()?;
    let part = read.part?.parse().map(Part::Media).ok()?;
    let bytes = u32::try_from(read.bytes).ok().filter(|bytes| *bytes > 0)?;
    let title = format!("{}/{}", read.title?, read.package?);
    (read.method == "GET").then_some(Entry {
        time: read.time,
        title,
        rendition: read.rendition?,
        part,
        bytes,
    })
}

fn cdn_line(fields: &[String], line: &str) -> Option<Entry> {
    let values: Vec<&str> = line.split('\t').collect();
    let value = |name: &str| values.get(fields.iter().position(|field| field == name)?).copied();
    let bytes = value("sc-bytes")?.parse().ok().filter(|bytes: &u32| *bytes > 0)?;
    let delivered = ["200", "206"].contains(&value("sc-status")?);
    let (title, rendition, number) = segment_path(value("cs-uri-stem")?)?;
    let time = unix_seconds(value("date")?, value("time")?)?;
    let (title, rendition) = (title.to_owned(), rendition.to_owned());
    (delivered && value("cs-method")? == "GET").then_some(Entry {
        time,
        title,
        rendition,
        part: Part::Media(number),
        bytes,
    })
}

/// Title, rendition and number of a segment's path.
fn segment_path(path: &str) -> Option<(&str, &str, u32)> {
    let (folders, file) = path.trim_start_matches('/').rsplit_once('/')?;
    let (title, rendition) = folders.rsplit_once('/')?;
    let (stem, _) = file.rsplit_once('.')?;
    let last = stem.rfind(|c: char| c.is_ascii_digit())?;
    let digits = &stem[..=last];
    let first = digits.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    // Letters may be wider than a byte, but a digit is not; this cannot fall into the middle of one.
    let number = digits.get(first..).or_else(|| digits.get(last..))?;
    Some((title, rendition, number.parse().ok()?))
}

/// Unix seconds of `2026-05-01` and `20:15:00`, both UTC (days from the civil calendar, counted from March).
fn unix_seconds(date: &str, time: &str) -> Option<u64> {
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let parsed: Result<Vec<u64>, _> = text.split(between).map(str::parse).collect();
    parsed.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CDN: &str = concat!(
        "#Version: 1.0\n",
        "#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status\n",
        "2026-05-01\t20:15:06\tFRA1\t900\t1.2.3.4\tGET\tx\t/vod/film/1080p/seg_00012.ts\t200\n",
        "2026-05-01\t20:15:00\tFRA1\t800\t1.2.3.4\tGET\tx\t/vod/film/1080p/seg_00011.ts\t206\n",
        "2026-05-01\t20:15:09\tFRA1\t1000\t1.2.3.5\tGET\tx\t/vod/film/1080p/seg_00011.ts\t200\n",
        "2026-05-01\t20:15:09\tFRA1\t800\t1.2.3.5\tGET\tx\t/vod/film/1080p/seg_00013.ts\t404\n",
        "2026-05-01\t20:15:09\tFRA1\t800\t1.2.3.5\tGET\tx\t/vod/film/1080p/index.m3u8\t200\n",
        "a\tline\tthat is cut\n",
    );

    #[test]
    fn a_log_of_a_cdn() {
        let log = read_log(CDN.as_bytes(), 0.5).expect("a log");
        assert_eq!((log.used, log.skipped), (3, 3));
        let asked = |at: usize| {
            let request = log.trace.requests[at];
            let object = log.trace.objects[request.object as usize];
            (request.tenths, object.part, object.bytes)
        };
        let (eleven, twelve) = (Part::Media(11), Part::Media(12));
        assert_eq!(
            [asked(0), asked(1), asked(2)],
            [(0, eleven, 1000), (60, twelve, 900), (90, eleven, 1000)]
        );
        assert_eq!(log.trace.measured_from, 1);
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/vod/film/1080p/seg_00012.ts", Some(("vod/film", "1080p", 12))),
            ("/film/00000000000000ff/v720/7.m4s", Some(("film/00000000000000ff", "v720", 7))),
            ("/a/b/12-of-34.ts", Some(("a", "b", 34))),
            ("/a/b/\u{e9}1.ts", Some(("a", "b", 1))),
            ("/a/b/index.m3u8", None),
            ("/a/b/99999999999.ts", None),
            ("/b/1.ts", None),
            ("/a/b/1", None),
            ("", None),
        ] {
            assert_eq!(segment_path(path), expected, "{path}");
        }
    }

    #[test]
    fn dates() {
        for (date, time, expected) in [
            ("1970-01-01", "00:00:00", Some(0)),
            ("2000-02-29", "23:59:59", Some(951_868_799)),
            ("2026-05-01", "20:15:06", Some(1_777_666_506)),
            ("2026-13-01", "20:15:06", None),
            ("2026-05-01", "24:15:06", None),
            ("2026-05", "20:15:06", None),
            ("x", "y", None),
        ] {
            assert_eq!(unix_seconds(date, time), expected, "{date} {time}");
        }
    }

    #[test]
    fn a_log_of_a_gateway() {
        let text = concat!(
            r#"{"time":100,"node":"n","method":"GET","kind":"segment","title":"film","package":"00000000000000ff","#,
            r#""rendition":"v720","part":"3","status":200,"bytes":500,"total_ms":1,"http":"1.1","end":"whole"}"#,
            "\n",
            r#"{"time":101,"node":"n","method":"GET","kind":"playlist","title":"film","package":"00000000000000ff","#,
            r#""rendition":"v720","part":"playlist","bytes":500,"total_ms":1,"http":"1.1","end":"whole"}"#,
            "\n{\"time\":",
        );
        let log = read_log(text.as_bytes(), 0.0).expect("a log");
        assert_eq!((log.used, log.skipped), (1, 2));
        let object = log.trace.objects[0];
        assert_eq!((object.part, object.bytes), (Part::Media(3), 500));
    }

    #[test]
    fn nothing_of_use_is_an_error_with_an_example() {
        let error = read_log("GET /a HTTP/1.1\n".as_bytes(), 0.0).expect_err("nothing");
        assert!(
            error.to_string().contains("none of the 1 lines") && error.to_string().contains("GET /a"),
            "{error}"
        );
    }
}
