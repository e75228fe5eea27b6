//! The architecture test: which room may use which, and who may name which outside crate.
//!
//! The tables below are the crate map of `ARCHITECTURE.md` as data. `cargo metadata` is compared with them,
//! so an arrow that points the wrong way fails the build before anybody gets used to it.

use crate::failure::{Failure, Outcome};
use crate::metadata::{Metadata, Package};
use crate::term;

/// A crate of the workspace.
struct Room {
    name: &'static str,
    /// Arrows point from higher to lower levels only.
    level: u8,
    /// The rooms its code may name. Its tests may also name every lower library.
    uses: &'static [&'static str],
}

const LIBRARIES: &[&str] =
    &["media", "store", "sourcing", "control-api", "engine", "peer", "control", "front", "testkit"];

const ROOMS: &[Room] = &[
    Room { name: "media", level: 0, uses: &[] },
    Room { name: "xtask", level: 0, uses: &[] },
    Room { name: "store", level: 1, uses: &["media"] },
    Room { name: "sourcing", level: 1, uses: &["media"] },
    Room { name: "control-api", level: 1, uses: &["media"] },
    Room { name: "engine", level: 2, uses: &["media", "store", "sourcing"] },
    Room { name: "peer", level: 2, uses: &["media", "store", "sourcing"] },
    Room { name: "control", level: 2, uses: &["media", "control-api"] },
    Room { name: "front", level: 3, uses: &["media", "engine", "control-api"] },
    Room { name: "control-plane", level: 3, uses: &["media", "control-api", "control"] },
    Room { name: "cli", level: 3, uses: &["media", "control-api", "sourcing"] },
    Room { name: "testkit", level: 3, uses: LIBRARIES },
    Room { name: "bench", level: 4, uses: LIBRARIES },
    Room {
        name: "gateway",
        level: 4,
        uses: &["media", "store", "sourcing", "control-api", "engine", "peer", "front"],
    },
    Room { name: "scenarios", level: 5, uses: LIBRARIES },
    Room { name: "proofs", level: 5, uses: LIBRARIES },
];

/// Outside crates that only some rooms may name, tests included. The first row that fits decides; a pattern
/// ending in `*` fits every crate that begins so. Crates in no row are free.
const OUTSIDE: &[(&str, &[&str], &str)] = &[
    ("aws-lc-rs", EVERYWHERE, "cryptography, not the cloud"),
    ("aws-config", SERVERS, "the SDKs are generated code by the megabyte; only the servers pay for them"),
    ("aws-sdk-s3", SERVERS, "the SDKs are generated code by the megabyte; only the servers pay for them"),
    ("aws-*", &["control-plane"], "the gateway knows no cloud service but S3"),
    ("quinn*", &["peer", "gateway", "testkit", "scenarios", "bench"], "peers speak QUIC; nobody else does"),
    ("axum*", &["control-plane"], "the data plane controls its bodies itself"),
    ("redb", &["control-plane"], "state lives in the control plane"),
    (
        "tokio*",
        &[
            "store",
            "sourcing",
            "engine",
            "peer",
            "front",
            "gateway",
            "control-plane",
            "cli",
            "testkit",
            "scenarios",
            "proofs",
            "bench",
        ],
        "values and decisions wait for nothing",
    ),
    (
        "hyper*",
        &["front", "gateway", "control-plane", "cli", "sourcing", "testkit", "scenarios", "bench"],
        "HTTP lives at the edges of the house",
    ),
];

const EVERYWHERE: &[&str] = &["*"];
const SERVERS: &[&str] = &["gateway", "control-plane"];

/// Compares the workspace with the tables.
///
/// # Errors
/// One line for each arrow that is not allowed.
pub(crate) fn run(metadata: &Metadata) -> Outcome {
    let found: Vec<String> = metadata.members().flat_map(check).collect();
    if !found.is_empty() {
        return Err(Failure::new(found.join("\n")));
    }
    term::say(format_args!("layers: {} rooms, every arrow points down", metadata.members().count()));
    Ok(())
}

fn check(package: &Package) -> Vec<String> {
    let Some(room) = ROOMS.iter().find(|room| room.name == package.name) else {
        return vec![format!("{}: not in the table of rooms (deploy/xtask/src/layers.rs)", package.name)];
    };
    let arrows = package.dependencies.iter();
    arrows.filter_map(|arrow| check_arrow(room, &arrow.name, arrow.kind.as_deref())).collect()
}

fn check_arrow(room: &Room, to: &str, kind: Option<&str>) -> Option<String> {
    match ROOMS.iter().find(|other| other.name == to) {
        Some(_) if room.uses.contains(&to) => None,
        Some(other) if kind == Some("dev") && may_test_with(room, other) => None,
        Some(_) => Some(format!("{}: may not use {to}; allowed are {:?}", room.name, room.uses)),
        None => check_outside(room, to),
    }
}

/// Tests may build a real lower neighbour instead of a fake one.
fn may_test_with(room: &Room, other: &Room) -> bool {
    let library = LIBRARIES.contains(&other.name);
    library && (other.level < room.level || (other.name == "testkit" && room.level >= 3))
}

fn check_outside(room: &Room, to: &str) -> Option<String> {
    let (_, rooms, why) = OUTSIDE.iter().find(|(pattern, ..)| fits(pattern, to))?;
    if rooms.contains(&"*") || rooms.contains(&room.name) {
        return None;
    }
    Some(format!("{}: may not name {to}: {why}; allowed are {rooms:?}", room.name))
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(from: &str, to: &str, kind: Option<&str>) -> bool {
        let room = ROOMS.iter().find(|room| room.name == from).expect(from);
        check_arrow(room, to, kind).is_none()
    }

    #[test]
    fn arrows() {
        for (from, to, kind, allowed) in [
            ("engine", "store", None, true),
            ("store", "engine", None, false),
            ("peer", "engine", None, false),
            ("peer", "engine", Some("dev"), false),
            ("front", "sourcing", None, false),
            ("front", "sourcing", Some("dev"), true),
            ("front", "testkit", Some("dev"), true),
            ("store", "testkit", Some("dev"), false),
            ("front", "gateway", Some("dev"), false),
            ("media", "tokio", None, false),
            ("media", "tokio", Some("dev"), false),
            ("media", "blake3", None, true),
            ("control", "tokio-util", None, false),
            ("sourcing", "aws-sdk-s3", None, false),
            ("gateway", "aws-sdk-s3", None, true),
            ("gateway", "aws-sdk-dynamodb", None, false),
            ("control-plane", "aws-sdk-dynamodb", None, true),
            ("control-api", "aws-lc-rs", None, true),
            ("engine", "quinn", None, false),
        ] {
            assert_eq!(verdict(from, to, kind), allowed, "{from} -> {to} {kind:?}");
        }
    }

    #[test]
    fn the_table_itself_points_down() {
        for room in ROOMS.iter().filter(|room| !room.uses.is_empty() && room.name != "testkit") {
            for used in room.uses {
                let other = ROOMS.iter().find(|other| other.name == *used).expect(used);
                assert!(other.level < room.level, "{} -> {used}", room.name);
            }
        }
    }

    #[test]
    fn this_workspace_obeys() {
        run(&Metadata::read().expect("cargo metadata")).expect("every arrow points down");
    }
}
