//! Licences, bans and origins of every crate in the build, by the rules in `deny.toml`.
//!
//! The file is written in the words of cargo-deny, so that tool can be run on it too where it is installed;
//! this check reads the part that needs no network: `licenses`, `bans` and `sources`.

mod expression;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::failure::{Context, Failure, Outcome};
use crate::metadata::{Metadata, Package};
use crate::shell::root;
use crate::term;

#[derive(Debug, Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
    #[serde(default)]
    skip: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    reason: String,
}

/// Applies `deny.toml` to the build.
///
/// # Errors
/// One line for each crate that breaks a rule.
pub(crate) fn run(metadata: &Metadata) -> Outcome {
    let path = root().join("deny.toml");
    let text = std::fs::read_to_string(&path).doing(path.display())?;
    let rules: Rules = toml::from_str(&text).doing(path.display())?;
    let mut found: Vec<String> = metadata.used().filter_map(|package| judge(package, &rules)).collect();
    found.extend(duplicates(metadata.used(), &rules.bans.skip));
    if !found.is_empty() {
        return Err(Failure::new(found.join("\n")));
    }
    term::say(format_args!("licences: {} crates, all allowed", metadata.used().count()));
    Ok(())
}

fn judge(package: &Package, rules: &Rules) -> Option<String> {
    let complaint = banned(package, &rules.bans.deny)
        .or_else(|| wrong_origin(package))
        .or_else(|| wrong_licence(package, &rules.licenses))?;
    Some(format!("{} {}: {complaint}", package.name, package.version))
}

fn banned(package: &Package, bans: &[Ban]) -> Option<String> {
    let ban = bans.iter().find(|ban| ban.name == package.name)?;
    Some(format!("banned: {}", ban.reason))
}

/// Everything but our own crates comes from the default registry, where the lock file pins its hash.
fn wrong_origin(package: &Package) -> Option<String> {
    let elsewhere = package.dependencies.iter().find(|dependency| dependency.registry.is_some());
    if let Some(dependency) = elsewhere {
        return Some(format!("takes {} from another registry", dependency.name));
    }
    let source = package.source.as_deref()?;
    if source.starts_with("registry+") { None } else { Some(format!("comes from {source}")) }
}

fn wrong_licence(package: &Package, rules: &Licenses) -> Option<String> {
    let Some(text) = &package.license else {
        let file = package.license_file.as_deref().unwrap_or("nothing");
        return Some(format!("names no licence expression (only {file})"));
    };
    let exception = rules.exceptions.iter().find(|exception| exception.name == package.name);
    let allowed = |licence: &str| {
        rules.allow.contains(licence) || exception.is_some_and(|exception| exception.allow.contains(licence))
    };
    match expression::satisfied(text, &allowed) {
        Ok(true) => None,
        Ok(false) => Some(format!("licence {text} is not allowed")),
        Err(error) => Some(format!("licence {text:?} cannot be read: {error}")),
    }
}

/// Two versions of one crate are twice the build and two truths; the known ones stand in the file with the
/// reason, and a known one that is gone must leave the file.
fn duplicates<'a>(packages: impl Iterator<Item = &'a Package>, skip: &[Ban]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let known = |name: &str| skip.iter().any(|ban| ban.name == name);
    let unknown = versions.iter().filter(|(name, _)| !known(name));
    let mut found: Vec<String> =
        unknown.map(|(name, v)| format!("{name}: in the build twice: {v:?}")).collect();
    let gone = skip.iter().filter(|ban| !versions.contains_key(ban.name.as_str()));
    found.extend(
        gone.map(|ban| format!("{}: no longer in the build twice; remove it from deny.toml", ban.name)),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, licence: Option<&str>, source: Option<&str>) -> Package {
        let json = serde_json::json!({
            "id": format!("{name}@{version}"), "name": name, "version": version, "license": licence,
            "license_file": null, "source": source, "dependencies": [], "features": {}, "targets": [],
            "manifest_path": "",
        });
        serde_json::from_value(json).expect("a package")
    }

    fn rules() -> Rules {
        let text = r#"
            [licenses]
            allow = ["MIT"]
            exceptions = [{ crate = "odd", allow = ["Odd"] }]
            [bans]
            deny = [{ crate = "openssl", reason = "one TLS stack" }]
        "#;
        toml::from_str(text).expect("rules")
    }

    #[test]
    fn verdicts() {
        let registry = Some("registry+somewhere");
        for (name, licence, source, complaint) in [
            ("a", Some("MIT OR GPL-3.0"), registry, None),
            ("a", Some("GPL-3.0"), registry, Some("not allowed")),
            ("a", None, registry, Some("no licence")),
            ("a", Some("MIT"), Some("git+somewhere"), Some("comes from git")),
            ("ours", Some("MIT"), None, None),
            ("odd", Some("Odd"), registry, None),
            ("a", Some("Odd"), registry, Some("not allowed")),
            ("openssl", Some("MIT"), registry, Some("one TLS stack")),
        ] {
            let verdict = judge(&package(name, "1.0.0", licence, source), &rules());
            match (verdict, complaint) {
                (None, None) => {}
                (Some(verdict), Some(part)) => assert!(verdict.contains(part), "{verdict}"),
                (verdict, complaint) => panic!("{name} {licence:?}: {verdict:?}, expected {complaint:?}"),
            }
        }
    }

    #[test]
    fn a_second_version_is_reported_until_it_is_known() {
        let packages = [package("a", "1.0.0", None, None), package("a", "2.0.0", None, None)];
        let known = |name: &str| vec![Ban { name: name.into(), reason: String::new() }];
        assert_eq!(duplicates(packages.iter(), &[]).len(), 1);
        assert!(duplicates(packages.iter(), &known("a")).is_empty());
        assert_eq!(duplicates(packages[..1].iter(), &known("a")).len(), 1);
    }

    #[test]
    fn this_workspace_obeys() {
        run(&Metadata::read().expect("cargo metadata")).expect("licences, bans and sources");
    }
}
