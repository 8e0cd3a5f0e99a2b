//! `cakework login` and `cakework logout`.

use serde_json::Value;

use super::registry::secret;
use crate::args::{Login, Logout};
use crate::client::Client;
use crate::failure::{Exit, Failure, Result};
use crate::profile::{self, LOCAL, Profile, Profiles};
use crate::show;

/// Keeps a server and a key, once the server has taken the key.
pub(super) async fn login(options: &Login) -> Result<Exit> {
    let path = profile::path()?;
    let mut profiles = Profiles::read(&path)?;
    let url = options.url.clone().unwrap_or_else(|| LOCAL.to_owned());
    let key = match std::env::var("CAKEWORK_API_KEY").ok().filter(|key| !key.is_empty()) {
        Some(key) => key,
        None => secret(&format!("API key of {url} (`cakework key create` makes one): "))?,
    };
    let client = Client::of(&url, Some(key.clone()))?;
    client.get::<Value>("/v1/vms", &[("limit", "1".to_owned())]).await?;
    profiles.profiles.insert(options.profile.clone(), Profile { url: client.base().to_owned(), key });
    profiles.current = Some(options.profile.clone());
    profiles.write(&path)?;
    show::done("logged in", &format!("to {url} as the profile {:?}, kept in {}", options.profile, path.display()));
    Ok(Exit::Done)
}

/// Forgets one.
pub(super) fn logout(options: &Logout) -> Result<Exit> {
    let path = profile::path()?;
    let mut profiles = Profiles::read(&path)?;
    let name = options.profile.clone().unwrap_or_else(|| profiles.current().to_owned());
    let Some(gone) = profiles.profiles.remove(&name) else {
        return Err(Failure::new(Exit::Absent, format!("there is no profile {name:?}")));
    };
    if profiles.current() == name {
        profiles.current = None;
    }
    profiles.write(&path)?;
    show::done("forgotten", &format!("{name:?}, {}", gone.url));
    show::fact("the key itself goes on being valid: `cakework key revoke` ends it");
    Ok(Exit::Done)
}
