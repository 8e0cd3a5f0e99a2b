//! Values that are never printed and wiped when dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroize as _;

/// Values by name, such as a build's secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretMap(BTreeMap<String, String>);

impl SecretMap {
    /// The names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for SecretMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::deserialize(deserializer);
        map.map(Self).map_err(|error| hide(error, "an object of strings"))
    }
}

impl Drop for SecretMap {
    fn drop(&mut self) {
        self.0.values_mut().for_each(|value| value.zeroize());
    }
}

impl std::fmt::Debug for SecretMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretMap(..)")
    }
}

/// One value, such as a token or a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer);
        text.map(Self).map_err(|error| hide(error, "a string"))
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// An error in other words than the reader's own, which repeat what is of the wrong type.
fn hide<E: serde::de::Error>(error: E, expected: &str) -> E {
    if error.to_string().starts_with("missing field") {
        return error;
    }
    E::custom(format_args!("invalid type: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_never_printed() {
        let map: SecretMap = serde_json::from_str(r#"{"npm": "geheim"}"#).expect("a map");
        let text: SecretText = serde_json::from_str(r#""geheim""#).expect("a text");
        assert!(!format!("{map:?}{text:?}").contains("geheim"));
        for wrong in [r#""geheim""#, r#"{"a": ["geheim"]}"#, r#"{"a": {"geheim": 1}}"#] {
            let map = serde_json::from_str::<SecretMap>(wrong).expect_err("not a map of strings");
            assert!(map.to_string().starts_with("invalid type") && !map.to_string().contains("geheim"), "{map}");
        }
        assert!(!serde_json::from_str::<SecretText>("4711").expect_err("no string").to_string().contains("4711"));
        assert_eq!((map.iter().next(), text.as_str()), (Some(("npm", "geheim")), "geheim"));
    }
}
