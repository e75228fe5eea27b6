//! The JSON that leaves and enters the process, byte for byte: other programs read it.

use std::fmt::Debug;

use control_api::explain::{Explanation, SourceView, TierView};
use control_api::rest::{
    CaptionSource, Entitlement, EntitlementKind, EntitlementList, NewPurchase, NewSession, NewTitle,
    PlaybackSession, RenditionView, Stage, TitleList, TitleView,
};
use control_api::{Problem, ProblemCode};
use media::RenditionKind;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The value has this form in JSON, and the form reads back as the value.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, golden: &str) {
    let json = serde_json::to_string_pretty(value).expect("serialisable") + "\n";
    assert_eq!(json, golden);
    assert_eq!(serde_json::from_str::<T>(golden).expect("readable"), *value);
}

fn new_title() -> NewTitle {
    NewTitle {
        title: "big-buck-bunny".parse().expect("valid"),
        name: "Big Buck Bunny".into(),
        source: "bbb.mp4".into(),
        captions: vec![CaptionSource { language: "en".parse().expect("valid"), source: "bbb.en.vtt".into() }],
        attribution: Some("(c) 2008 Blender Foundation, CC-BY 3.0".into()),
        tags: vec!["licence-2026".parse().expect("valid"), "vendor-acme".parse().expect("valid")],
    }
}

fn title_view() -> TitleView {
    TitleView {
        title: "big-buck-bunny".parse().expect("valid"),
        name: "Big Buck Bunny".into(),
        stage: Stage::Published,
        progress_percent: 100,
        package: Some("00c0ffee00c0ffee".parse().expect("valid")),
        reason: None,
        attribution: None,
        tags: new_title().tags,
        renditions: vec![RenditionView {
            id: "v720".parse().expect("valid"),
            kind: RenditionKind::Video,
            bandwidth: 1_050_000,
            segments: 100,
            bytes: 63_500_000,
        }],
        lint: vec!["warning bandwidth-gap v720: declared 1.8 times the measured peak".into()],
        duration_ms: 596_474,
    }
}

fn explanation() -> Explanation {
    Explanation {
        node: "ams-1".into(),
        path: "bbb/00000000000000ff/v720/7".into(),
        object: "bbb/00000000000000ff/v720.mp4".into(),
        bytes: Some(500_001),
        tiers: Some(TierView { groups: 31, memory: 30, disk: 0, lacking_bytes: 16_384, filling: false }),
        priced_bytes: 16_384,
        sources: vec![SourceView {
            source: "s3".into(),
            kind: "s3".into(),
            usd_per_gb: "0.085".into(),
            usd_per_request: "0.0000004".into(),
            usd: "0.00000179264".into(),
            standing: "open".into(),
            rest_ends_in_ms: Some(1_500),
            first_byte_ms: Some(12),
            first_byte_p50_ms: Some(10),
            first_byte_p95_ms: Some(20),
            first_byte_p99_ms: None,
            bytes_per_second: Some(40_000_000),
            failed_percent: Some(30),
            permits: 32,
            reason: Some("last-resort".into()),
        }],
    }
}

#[test]
fn explanations() {
    check(&explanation(), include_str!("golden/explanation.json"));
}

fn entitlement() -> Entitlement {
    Entitlement {
        id: "e-1".parse().expect("valid"),
        viewer: "viewer.1".parse().expect("valid"),
        title: "big-buck-bunny".parse().expect("valid"),
        kind: EntitlementKind::Rental,
        bought_at: 1_780_000_000,
        start_by: Some(1_782_592_000),
        first_played_at: None,
        finish_by: None,
        withdrawn: None,
    }
}

#[test]
fn requests() {
    check(&new_title(), include_str!("golden/new-title.json"));
    let purchase = NewPurchase {
        viewer: "viewer.1".parse().expect("valid"),
        title: "big-buck-bunny".parse().expect("valid"),
        kind: EntitlementKind::Purchase,
        transaction: None,
    };
    check(&purchase, include_str!("golden/new-purchase.json"));
    let session =
        NewSession { viewer: purchase.viewer, title: purchase.title, device: None, take_over: false };
    check(&session, include_str!("golden/new-session.json"));
}

#[test]
fn answers() {
    check(&title_view(), include_str!("golden/title-view.json"));
    check(&TitleList { titles: vec![] }, include_str!("golden/title-list.json"));
    check(
        &EntitlementList { entitlements: vec![entitlement()] },
        include_str!("golden/entitlement-list.json"),
    );
    let session = PlaybackSession {
        session: "s1".parse().expect("valid"),
        url: "https://edge.example/p/TOKEN/big-buck-bunny/00c0ffee00c0ffee/main.m3u8".into(),
        expires_at: 1_780_010_000,
        title: "big-buck-bunny".parse().expect("valid"),
        package: "00c0ffee00c0ffee".parse().expect("valid"),
        resume_at_ms: 61_000,
        beacon_every_s: 30,
    };
    check(&session, include_str!("golden/playback-session.json"));
    let problem = Problem::new(ProblemCode::NoEntitlement, "viewer.1 has no right to big-buck-bunny");
    check(&problem, include_str!("golden/problem.json"));
}

#[test]
fn stages_have_one_word_each() {
    for stage in Stage::ALL {
        let json = serde_json::to_string(&stage).expect("serialisable");
        assert_eq!(json, format!("\"{}\"", stage.as_str()));
    }
}

#[test]
fn a_short_request_is_enough() {
    let short: NewTitle =
        serde_json::from_str(r#"{"title":"a","name":"A","source":"a.mp4"}"#).expect("only what is needed");
    assert_eq!((short.captions.len(), short.attribution, short.tags.len()), (0, None, 0));
}

#[test]
fn requests_refuse_what_they_do_not_know() {
    let check = |json: &str, expected: &str| {
        let error = serde_json::from_str::<NewTitle>(json).expect_err(json).to_string();
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    };
    check(r#"{"title":"a","name":"A","source":"a.mp4","caption":[]}"#, "unknown field `caption`");
    check(r#"{"title":"../a","name":"A","source":"a.mp4"}"#, "title holds a character");
    check(r#"{"title":"a","name":"A","source":"a.mp4","tags":["Acme"]}"#, "tag holds a character");
    check(r#"{"name":"A","source":"a.mp4"}"#, "missing field `title`");
    let caption = r#"{"title":"a","name":"A","source":"a","captions":[{"language":"EN","source":"x"}]}"#;
    check(caption, "no language tag");
    let purchase = r#"{"viewer":"v","title":"t","kind":"rental","price":0}"#;
    assert!(serde_json::from_str::<NewPurchase>(purchase).is_err());
    assert!(serde_json::from_str::<NewPurchase>(r#"{"viewer":"v","title":"t","kind":"gift"}"#).is_err());
    assert!(serde_json::from_str::<NewSession>(r#"{"viewer":"v","title":"t","ip":"::1"}"#).is_err());
}
