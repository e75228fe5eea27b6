//! `weir.toml`: the connection, so that it need not be typed each time.
//!
//! ```toml
//! api = "https://control.example.net"
//! key_file = "operator.key"     # relative to this file
//! node = "http://127.0.0.1:8481"   # whom `weir explain` asks
//! ```

use std::path::{Path, PathBuf};

use control_api::keys::OperatorKey;
use serde::Deserialize;

use crate::arguments::Connection;
use crate::error::Error;

const DEFAULT_API: &str = "http://127.0.0.1:8470";
const DEFAULT_NODE: &str = "http://127.0.0.1:8481";
const DEFAULT_FILE: &str = "weir.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// The control plane's URL.
    api: Option<String>,
    /// The operator key's file, relative to the folder of this file.
    key_file: Option<PathBuf>,
    /// The admin address of a node.
    node: Option<String>,
}

/// A connection that is complete.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) api: String,
    pub(crate) key: OperatorKey,
}

impl Settings {
    /// What was typed wins over the file, the file over the defaults.
    pub(crate) fn load(typed: Connection) -> Result<Self, Error> {
        let file = read_file(typed.config)?;
        let api = typed.api.or(file.api).unwrap_or_else(|| DEFAULT_API.to_owned());
        let key_file = typed.key_file.or(file.key_file).ok_or(Error::NoKeyFile)?;
        let text = read(&key_file)?;
        let key = OperatorKey::parse(&text).map_err(|error| Error::Key(key_file, error))?;
        Ok(Self { api, key })
    }
}

/// The node to ask: what was typed, else what the file says. No key is needed for it.
pub(crate) fn node(typed: Option<String>, config: Option<PathBuf>) -> Result<String, Error> {
    let file = read_file(config)?;
    Ok(typed.or(file.node).unwrap_or_else(|| DEFAULT_NODE.to_owned()))
}

fn read_file(typed: Option<PathBuf>) -> Result<File, Error> {
    let path = match typed {
        Some(path) => path,
        None if Path::new(DEFAULT_FILE).is_file() => PathBuf::from(DEFAULT_FILE),
        None => return Ok(File::default()),
    };
    let mut file: File = toml::from_str(&read(&path)?).map_err(|error| Error::Config(path.clone(), error))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    file.key_file = file.key_file.map(|key_file| folder.join(key_file));
    Ok(file)
}

/// Reads a small text file.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::File(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(config: &Path, api: Option<&str>) -> Connection {
        Connection { api: api.map(Into::into), key_file: None, config: Some(config.to_owned()) }
    }

    #[test]
    fn typed_wins_over_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("weir.toml");
        std::fs::write(&config, "api = \"http://a\"\nkey_file = \"k\"\n").expect("written");
        std::fs::write(folder.path().join("k"), OperatorKey::from_bytes([7; 32]).to_line()).expect("written");
        assert_eq!(Settings::load(typed(&config, None)).expect("complete").api, "http://a");
        assert_eq!(Settings::load(typed(&config, Some("http://b"))).expect("complete").api, "http://b");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("weir.toml");
        for (text, part) in [
            ("apj = \"http://a\"", "unknown field `apj`"),
            ("api = 1", "invalid type"),
            ("api = \"http://a\"", "--key-file"),
            ("key_file = \"absent\"", "absent"),
            ("key_file = \"weir.toml\"", "weir.toml"),
        ] {
            std::fs::write(&config, text).expect("written");
            let error = Settings::load(typed(&config, None)).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
