use http::Request;
use proptest::prelude::*;

use super::*;

fn of(uri: &str, fields: &[(&str, &str)]) -> Option<Said> {
    let mut request = Request::get(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    said(&request.body(()).expect("a request").into_parts().0)
}

fn asked(request: &str) -> (Urgency, Option<u64>) {
    let said = of("/x", &[("cmcd-request", request)]).expect("something was said");
    (said.urgency, said.within.map(|within| within.as_millis() as u64))
}

#[test]
fn the_most_urgent_word_counts() {
    use Urgency::{Buffer, Deadline, Malformed, Startup, Unsaid};
    for (text, expected) in [
        ("bl=17800,dl=17800,mtp=143100,nor=\"seg00004.m4s\",su", (Startup, Some(0))),
        ("bl=17800,dl=12000", (Deadline, Some(12_000))),
        ("bl=17800", (Buffer, Some(17_800))),
        ("bl=0", (Buffer, Some(0))),
        ("su=?0, bl=500", (Buffer, Some(500))),
        ("bl=(17800 400;v),sn=5", (Buffer, Some(400))),
        ("bl=(17800)", (Buffer, Some(17_800))),
        ("bl=5,bl=7", (Buffer, Some(7))),
        ("bl=999999999999999", (Buffer, Some(MAX_WAIT_MS))),
        ("mtp=100", (Unsaid, None)),
        ("", (Unsaid, None)),
        ("com.example-key=\"a,b=\\\"c\\\\\";p=1.5,bl=100", (Buffer, Some(100))),
        ("bl", (Malformed, None)),
        ("bl=-5", (Malformed, None)),
        ("bl=1.5", (Malformed, None)),
        ("bl=5s", (Malformed, None)),
        ("bl=()", (Malformed, None)),
        ("bl=(5 a)", (Malformed, None)),
        ("bl=(5", (Malformed, None)),
        ("bl=(5(6))", (Malformed, None)),
        ("bl=1234567890123456", (Malformed, None)),
        ("su=yes", (Malformed, None)),
        ("su=?2", (Malformed, None)),
        ("BL=5", (Malformed, None)),
        ("bl=5,", (Malformed, None)),
        (",bl=5", (Malformed, None)),
        ("bl=5 su", (Malformed, None)),
        ("nor=\"open", (Malformed, None)),
        ("nor=\"a\\b\"", (Malformed, None)),
        ("bl=5;", (Malformed, None)),
    ] {
        assert_eq!(asked(text), expected, "{text:?}");
    }
    let many = |count: usize| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    assert_eq!(asked(&many(MAX_KEYS)).0, Unsaid);
    assert_eq!(asked(&many(MAX_KEYS + 1)).0, Malformed);
    assert_eq!(asked(&format!("k=\"{}\"", "x".repeat(MAX_BYTES))).0, Malformed);
}

#[test]
fn headers_go_before_the_query_and_silence_is_silence() {
    assert_eq!(of("/x", &[]), None);
    assert_eq!(of("/x?other=su", &[("cmcd-object", "br=4871"), ("cmcd-session", "sid=\"s\"")]), None);
    let starved = of("/x", &[("cmcd-request", "bl=5000"), ("cmcd-status", "bs,rtp=24400")]);
    let now = Some(Duration::ZERO);
    assert_eq!(starved, Some(Said { urgency: Urgency::Starved, within: now, pace_kbps: Some(24_400) }));
    let urgency = |uri: &str, fields: &[(&str, &str)]| of(uri, fields).map(|said| said.urgency);
    assert_eq!(urgency("/x?CMCD=bl%3D900%2Csf%3Dh", &[]), Some(Urgency::Buffer));
    assert_eq!(urgency("/x?CMCD=su", &[("cmcd-request", "bl=1")]), Some(Urgency::Buffer));
    assert_eq!(urgency("/x?CMCD=su&CMCD=su", &[]), Some(Urgency::Malformed));
    assert_eq!(urgency("/x?CMCD=%zz", &[]), Some(Urgency::Malformed));
    assert_eq!(urgency("/x", &[("cmcd-request", "su"), ("cmcd-request", "su")]), Some(Urgency::Malformed));
    assert_eq!(urgency("/x", &[("cmcd-request", "su\u{e9}")]), Some(Urgency::Malformed));
}

proptest! {
    #[test]
    fn no_report_can_hurt(text in "[ -~]{0,200}") {
        let mut report = Report::default();
        let _ = report.read(&text);
        let said = report.said();
        prop_assert!(said.within.is_none_or(|within| within <= Duration::from_millis(MAX_WAIT_MS)));
    }

    /// Nearly well-formed ones, cut anywhere.
    #[test]
    fn a_cut_report_is_read_or_refused(
        parts in proptest::collection::vec("(bl|dl|su|bs|rtp|nor|x)(=(\\(?[0-9]{1,4}( [0-9]{1,3})?\\)?|\"[a-z\\\\\"]{0,4}\"|\\?[01]))?(;v(=1)?)?", 0..8),
        cut in 0usize..80
    ) {
        let text = parts.join(",");
        let cut = text.len().min(cut);
        let _ = Report::default().read(&text[..cut]);
    }

    /// What a player that keeps to the rules says is understood, in headers as in the query.
    #[test]
    fn the_rules_are_enough(bl in 0u64..100_000, dl in proptest::option::of(0u64..100_000), su: bool) {
        let mut keys = vec![format!("bl={bl}")];
        keys.extend(dl.map(|dl| format!("dl={dl}")));
        keys.extend(su.then(|| "su".to_owned()));
        let text = keys.join(",");
        let expected = if su { 0 } else { dl.unwrap_or(bl) };
        prop_assert_eq!(asked(&text).1, Some(expected));
        let escaped = text.replace('=', "%3D").replace(',', "%2C");
        let by_query = of(&format!("/x?CMCD={escaped}"), &[]).and_then(|said| said.within);
        prop_assert_eq!(by_query, Some(Duration::from_millis(expected)));
    }
}
