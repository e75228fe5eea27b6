//! Reads the file and reports all its mistakes together, each with its key.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Config;

/// The configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Not TOML.
    #[error("the configuration is not TOML: {0}")]
    Syntax(String),
    /// Keys that are unknown or have impossible values, each `key: why`.
    #[error("the configuration has mistakes:\n  {}", .0.join("\n  "))]
    Mistakes(Vec<String>),
}

/// Reads the file; relative paths become relative to its directory.
///
/// # Errors
/// [`ConfigError`], with all mistakes.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let file = |e: std::io::Error| ConfigError::File { path: path.to_owned(), why: e.to_string() };
    let text = std::fs::read_to_string(path).map_err(file)?;
    let path = std::path::absolute(path).map_err(file)?;
    parse(&text, path.parent().unwrap_or(&path))
}

/// Reads the text of a file that lies in `base`.
///
/// # Errors
/// [`ConfigError`], with all mistakes.
pub fn parse(text: &str, base: &Path) -> Result<Config, ConfigError> {
    let mut table: Table = text.parse().map_err(|e: toml::de::Error| ConfigError::Syntax(e.to_string()))?;
    let mut mistakes = Vec::new();
    let mut sections = Sections { table: &mut table, mistakes: &mut mistakes };
    let mut config = Config {
        data_dir: sections.value("data_dir").unwrap_or_default(),
        ready_file: sections.value("ready_file"),
        api: sections.section("api"),
        log: sections.section("log"),
        keys: sections.section("keys"),
        state: sections.section("state"),
        mezzanine: sections.section("mezzanine"),
        packages: sections.section("packages"),
        tools: sections.section("tools"),
        transcode: sections.section("transcode"),
        ingest: sections.section("ingest"),
        playback: sections.section("playback"),
        rentals: sections.section("rentals"),
        payments: sections.section("payments"),
        player: sections.section("player"),
    };
    mistakes.extend(table.keys().map(|key| format!("{key}: there is no such key")));
    mistakes.extend(config.problems());
    if !mistakes.is_empty() {
        return Err(ConfigError::Mistakes(mistakes));
    }
    config.resolve(base);
    Ok(config)
}

struct Sections<'a> {
    table: &'a mut Table,
    mistakes: &'a mut Vec<String>,
}

impl Sections<'_> {
    fn value<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        match self.table.remove(key)?.try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                self.mistakes.push(format!("{key}: {}", error.message()));
                None
            }
        }
    }

    /// A section's keys are first read one at a time, because serde stops at the first mistake and does not
    /// always name its key. Keys that cannot be read are left out, so that the others can be checked.
    fn section<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let mut section = match self.table.remove(name) {
            None => return T::default(),
            Some(Value::Table(section)) => section,
            Some(_) => {
                self.mistakes.push(format!("{name}: must be a section, `[{name}]`"));
                return T::default();
            }
        };
        section.retain(|key, value| {
            let alone = Table::from_iter([(key.to_owned(), value.clone())]);
            match alone.try_into::<T>() {
                Ok(_) => true,
                Err(error) => {
                    let unknown = error.message().starts_with("unknown field");
                    let why = if unknown { "there is no such key" } else { error.message().trim() };
                    self.mistakes.push(format!("{name}.{key}: {why}"));
                    false
                }
            }
        });
        section.try_into().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LogFormat, Size, StoreKind};
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults_below_its_directory() {
        let config = parse("", Path::new("/etc/weir")).expect("defaults");
        assert_eq!(config.data_dir, Path::new("/etc/weir/data"));
        assert_eq!(config.keys.token, Path::new("/etc/weir/data/keys/token.key"));
        assert_eq!(config.mezzanine.path, Path::new("/etc/weir/data/mezzanine"));
        assert_eq!(config.packages.path, Path::new("/etc/weir/data/packages"));
        assert_eq!(config.tools.ffmpeg, Path::new("ffmpeg"));
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.mezzanine.kind, StoreKind::Directory);
        assert_eq!(config.api.body_limit, Size::kib(64));
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let text = r#"
            nonsense = 1
            log = "json"
            [api]
            listen = "here"
            body_limit = "16"
            conections = 7
            [packages]
            kind = "s3"
            access_key_file = "a"
            [playback]
            base_url = "gateway.example"
            [rentals]
            grace = "4"
            [transcode]
            preset = "quick"
        "#;
        let Err(ConfigError::Mistakes(mistakes)) = parse(text, Path::new("/")) else {
            panic!("has mistakes")
        };
        for key in [
            "nonsense:",
            "log:",
            "api.listen:",
            "api.body_limit:",
            "api.conections:",
            "packages.bucket:",
            "packages.secret_key_file:",
            "playback.base_url:",
            "rentals.grace:",
            "transcode.preset:",
        ] {
            assert!(mistakes.iter().any(|line| line.starts_with(key)), "{key} in {mistakes:#?}");
        }
        assert_eq!(mistakes.len(), 10, "{mistakes:#?}");
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let config = parse("[api]\nlisten = \"127.0.0.1:0\"", Path::new("/etc/weir")).expect("valid");
        let printed = toml::to_string(&config).expect("printable");
        assert_eq!(parse(&printed, Path::new("/elsewhere")), Ok(config));
    }

    /// The example files name every key with its default; this keeps them true.
    #[test]
    fn the_examples_name_every_key() {
        let embedded = include_str!("../../../../deploy/embedded/control-plane.toml");
        let aws = include_str!("../../../../deploy/aws/control-plane.toml");
        let defaults = Table::try_from(parse("", Path::new("/")).expect("defaults")).expect("a table");
        let optional =
            ["ready_file", "region", "endpoint_url", "access_key_file", "secret_key_file", "hls_js"];
        for (name, text) in [("embedded", embedded), ("aws", aws)] {
            parse(text, Path::new("/etc/weir")).expect(name);
            for (key, value) in &defaults {
                assert!(names(text, key), "{name} says nothing of {key}");
                for key in value.as_table().into_iter().flat_map(Table::keys) {
                    assert!(names(text, key), "{name} says nothing of {key}");
                }
            }
            for key in optional {
                assert!(names(text, key), "{name} says nothing of {key}");
            }
        }
    }

    /// As a key, a commented-out key or a section.
    fn names(text: &str, key: &str) -> bool {
        text.lines()
            .map(|line| line.trim_start_matches(['#', ' ']))
            .any(|line| line.starts_with(&format!("{key} = ")) || line.starts_with(&format!("[{key}]")))
    }
}
