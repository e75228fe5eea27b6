//! Views: what is taken, what is refused, and who may have what from whom.

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_000_000;

fn signer(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

fn node(id: &str, key: u8, partner: Option<&str>) -> Node {
    Node {
        id: id.parse().expect("a name"),
        address: format!("{id}.example:8446"),
        key: KeyPin([key; 32]),
        weight: 100,
        partner: partner.map(|partner| partner.parse().expect("a name")),
        picodollars_per_byte: 0,
        max_bits_per_second: 0,
    }
}

fn grant(partner: &str, title: &str, renditions: &[&str], not_after: u64) -> Grant {
    Grant {
        partner: partner.parse().expect("a name"),
        title: title.parse().expect("a title"),
        renditions: renditions.iter().map(|name| name.parse().expect("a rendition")).collect(),
        not_after,
    }
}

fn view() -> RegionView {
    RegionView {
        region: "eu-west".parse().expect("a name"),
        epoch: 7,
        made: NOW - 10,
        not_after: NOW + 3_600,
        nodes: vec![
            node("core-1", 1, None),
            node("core-2", 2, None),
            node("isp-a-1", 3, Some("isp-a")),
            node("isp-a-2", 4, Some("isp-a")),
            node("isp-b-1", 5, Some("isp-b")),
        ],
        revoked: vec![KeyPin([9; 32])],
        grants: vec![
            grant("isp-a", "granted", &[], NOW + 60),
            grant("isp-a", "audio", &["a-en"], NOW + 60),
            grant("isp-a", "ended", &[], NOW),
            grant("isp-b", "granted", &[], NOW + 60),
        ],
    }
}

fn accept(text: &[u8], current: Option<&RegionView>, now: u64) -> Result<RegionView, ViewError> {
    let trusted = [signer(1).public(), signer(2).public()];
    RegionView::accept(text, &trusted, &view().region, current, now)
}

#[test]
fn a_signed_view_is_taken_and_reads_back() {
    let text = view().sign(&signer(2));
    assert!(text.starts_with("weir-region 1 "));
    assert_eq!(accept(text.as_bytes(), None, NOW), Ok(view()));
    assert_eq!(accept(text.as_bytes(), Some(&view()), NOW), Ok(view()), "the same again");
}

#[test]
fn what_is_refused_and_why() {
    let text = view().sign(&signer(1));
    assert_eq!(accept(b"", None, NOW), Err(ViewError::Shape));
    assert_eq!(accept(&[0xff; 10], None, NOW), Err(ViewError::Shape));
    assert_eq!(accept(&vec![b' '; MAX_VIEW_LEN + 1], None, NOW), Err(ViewError::TooLong));
    let id = signer(3).public().id().to_string();
    assert_eq!(accept(view().sign(&signer(3)).as_bytes(), None, NOW), Err(ViewError::UnknownKey(id)));
    let raised = text.replace("\"weight\":100", "\"weight\":999");
    assert_eq!(accept(raised.as_bytes(), None, NOW), Err(ViewError::Signature));
    let ended = ViewError::Ended { not_after: NOW + 3_600, now: NOW + 3_600 };
    assert_eq!(accept(text.as_bytes(), None, NOW + 3_600), Err(ended));
    let newer = RegionView { epoch: 8, ..view() };
    assert_eq!(accept(text.as_bytes(), Some(&newer), NOW), Err(ViewError::Older { found: 7, current: 8 }));
    let elsewhere = RegionView { region: "us-east".parse().expect("a name"), ..view() };
    assert!(matches!(
        accept(elsewhere.sign(&signer(1)).as_bytes(), None, NOW),
        Err(ViewError::Region { .. })
    ));
}

#[test]
fn a_signed_contradiction_is_refused_too() {
    let twice = |change: fn(&mut RegionView)| {
        let mut view = view();
        change(&mut view);
        accept(view.sign(&signer(1)).as_bytes(), None, NOW).expect_err("no sense").to_string()
    };
    assert!(twice(|view| view.nodes[1].id = view.nodes[0].id.clone()).contains("core-1 stands there twice"));
    assert!(twice(|view| view.nodes[1].key = view.nodes[0].key).contains("the key of core-2"));
    assert!(twice(|view| view.nodes[0].address = "nowhere".to_owned()).contains("core-1 is not host:port"));
}

/// Each row: who is asked, who asks, for what, and the verdict.
#[test]
fn who_may_have_what_from_whom() {
    let view = view();
    let of = |id: &str| view.node(&id.parse().expect("a name")).expect("in the view");
    let allowed: Result<(), Denied> = Ok(());
    for (provider, asker, title, rendition, verdict) in [
        ("core-1", "core-2", "anything", "v720", allowed),
        ("core-1", "isp-a-1", "granted", "v720", allowed),
        ("isp-a-2", "isp-a-1", "granted", "v720", allowed),
        ("isp-a-1", "core-1", "granted", "v720", allowed),
        ("core-1", "isp-a-1", "audio", "a-en", allowed),
        ("core-1", "isp-a-1", "audio", "v720", Err(Denied::NoGrant)),
        ("core-1", "isp-a-1", "other", "v720", Err(Denied::NoGrant)),
        ("core-1", "isp-a-1", "ended", "v720", Err(Denied::GrantEnded)),
        ("isp-a-1", "core-1", "other", "v720", Err(Denied::NoGrant)),
        ("isp-a-1", "core-1", "ended", "v720", Err(Denied::GrantEnded)),
        ("isp-a-1", "isp-b-1", "granted", "v720", Err(Denied::OtherPartner)),
        ("isp-b-1", "isp-a-1", "granted", "v720", Err(Denied::OtherPartner)),
    ] {
        let (title, rendition) = (title.parse().expect("a title"), rendition.parse().expect("a rendition"));
        let found = view.allows(of(provider), of(asker), (&title, &rendition), NOW);
        assert_eq!(found, verdict, "{asker} asks {provider} for {title}/{rendition}");
        let late = view.allows(of(provider), of(asker), (&title, &rendition), view.not_after);
        assert_eq!(late, Err(Denied::ViewEnded));
    }
    assert_eq!(view.holder(&KeyPin([9; 32])), Err(Denied::Revoked));
    assert_eq!(view.holder(&KeyPin([8; 32])), Err(Denied::Unknown));
    assert_eq!(view.holder(&KeyPin([3; 32])).map(|node| node.id.as_str()), Ok("isp-a-1"));
}

proptest! {
    #[test]
    fn no_changed_byte_is_accepted(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
        let mut text = view().sign(&signer(1)).into_bytes();
        let at = at.index(text.len());
        text[at] ^= flip;
        prop_assert!(accept(&text, None, NOW).is_err());
    }
}
