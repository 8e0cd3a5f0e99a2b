//! Where the server is and with which key it is asked: profiles in `~/.config/cakework/profiles.toml`, mode 0600.
//!
//! The environment (`CAKEWORK_URL`, `CAKEWORK_API_KEY`) stands over a profile. A key is only ever taken to the server that it
//! belongs to: with another `--url` than the profile's, the profile's key stays where it is.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::args::Connection;
use crate::failure::{Exit, Failure, Result};

/// Where a server of this machine is.
pub(crate) const LOCAL: &str = "http://localhost:8081";
/// The profile of whoever names none.
const DEFAULT: &str = "default";

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    /// The profile of whoever names none; `default` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) profiles: BTreeMap<String, Profile>,
}

/// One server.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) url: String,
    pub(crate) key: String,
}

/// It has a key, which is not shown.
impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Profiles {
    /// The file as it is; nothing where there is none.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::usage(format!("{} can't be read: {error}", path.display()))),
        };
        // The parser's message would quote the line, which may be a key.
        toml::from_str(&text).map_err(|_| {
            Failure::usage(format!("{} is not as `cakework login` writes it", path.display()))
                .fix("repair it, or remove it and log in again")
        })
    }

    /// Puts it in place of the file, readable by its owner alone.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir)?;
        // A temporary file is of mode 0600 from its beginning.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        let text = toml::to_string(self).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| Failure::from(error.error))?;
        Ok(())
    }

    /// The name of the profile that is used where none is named.
    pub(crate) fn current(&self) -> &str {
        self.current.as_deref().unwrap_or(DEFAULT)
    }
}

/// Where profiles are kept (XDG Base Directory Specification).
pub(crate) fn path() -> Result<PathBuf> {
    let of = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = of("XDG_CONFIG_HOME").or_else(|| of("HOME").map(|home| home.join(".config")));
    let config =
        config.ok_or_else(|| Failure::usage("there is no home directory to keep profiles in").fix("set HOME"))?;
    Ok(config.join("cakework").join("profiles.toml"))
}

/// The server and the key that a command is to use.
pub(crate) fn chosen(to: &Connection) -> Result<(String, Option<String>)> {
    let profiles = Profiles::read(&path()?)?;
    let of_environment = std::env::var("CAKEWORK_API_KEY").ok().filter(|key| !key.is_empty());
    choose(to, &profiles, of_environment)
}

fn choose(to: &Connection, profiles: &Profiles, of_environment: Option<String>) -> Result<(String, Option<String>)> {
    let profile = match &to.profile {
        Some(name) => Some(profiles.profiles.get(name).ok_or_else(|| {
            Failure::usage(format!("there is no profile {name:?}"))
                .fix(format!("make it: cakework login --profile {name}"))
        })?),
        None => profiles.profiles.get(profiles.current()),
    };
    let url = to.url.clone().or_else(|| profile.map(|profile| profile.url.clone())).unwrap_or_else(|| LOCAL.to_owned());
    let own = profile.filter(|profile| is_same(&profile.url, &url)).map(|profile| profile.key.clone());
    Ok((url, of_environment.or(own)))
}

/// Whether two URLs name one server.
fn is_same(left: &str, right: &str) -> bool {
    left.trim_end_matches('/') == right.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles() -> Profiles {
        let profile = |url: &str, key: &str| Profile { url: url.to_owned(), key: key.to_owned() };
        let both = [("default".to_owned(), profile("https://a", "ka")), ("b".to_owned(), profile("https://b/", "kb"))];
        Profiles { current: None, profiles: both.into() }
    }

    #[test]
    fn a_key_is_taken_to_its_own_server_alone() {
        let of = |profile: Option<&str>, url: Option<&str>, key: Option<&str>| {
            let to = Connection { profile: profile.map(str::to_owned), url: url.map(str::to_owned), json: false };
            choose(&to, &profiles(), key.map(str::to_owned)).map_err(|failure| failure.exit)
        };
        let pair = |url: &str, key: Option<&str>| Ok((url.to_owned(), key.map(str::to_owned)));
        assert_eq!(of(None, None, None), pair("https://a", Some("ka")));
        assert_eq!(of(Some("b"), None, None), pair("https://b/", Some("kb")));
        assert_eq!(of(Some("b"), Some("https://b"), None), pair("https://b", Some("kb")));
        assert_eq!(of(None, Some("https://evil"), None), pair("https://evil", None));
        assert_eq!(of(None, Some("https://evil"), Some("mine")), pair("https://evil", Some("mine")));
        assert_eq!(of(Some("c"), None, None), Err(Exit::Usage));
        assert!(!format!("{:?}", profiles()).contains("ka"));
    }

    #[test]
    fn the_file_is_its_owners_alone_and_comes_back_as_it_was() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cakework").join("profiles.toml");
        assert!(Profiles::read(&path).expect("nothing").profiles.is_empty());
        profiles().write(&path).expect("written");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let back = Profiles::read(&path).expect("read");
        assert_eq!((back.current(), back.profiles["b"].key.as_str()), ("default", "kb"));
        std::fs::write(&path, "[profiles.x]\nkey = secret").expect("written");
        let failure = Profiles::read(&path).expect_err("no TOML");
        assert!(!failure.message.contains("secret"), "{}", failure.message);
    }
}
