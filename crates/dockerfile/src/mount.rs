//! `RUN --mount=…`.

use std::collections::BTreeMap;

use crate::fault::{Refusal, invalid, shown, unsupported};
use crate::path;
use crate::scope::Scope;
use crate::step::{Mount, MountKind, Sharing, Tree};

const CACHE_MODE: u32 = 0o755;
const SECRET_MODE: u32 = 0o400;
/// The name of the empty tree.
const SCRATCH: &str = "scratch";

/// The fields of a mount, with nothing expanded.
#[derive(Debug, Clone)]
pub(crate) struct MountCommand {
    /// `key`, or `key` and value; keys in lower case.
    fields: Vec<(String, Option<String>)>,
}

impl MountCommand {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut fields = Vec::new();
        for field in fields_of(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            if field.is_empty() {
                return Err(invalid("A mount has an empty option. Remove the comma beside it."));
            }
            let key = match key.to_ascii_lowercase().as_str() {
                "src" => "source".to_owned(),
                "dst" | "destination" => "target".to_owned(),
                "ro" => "readonly".to_owned(),
                "rw" => "readwrite".to_owned(),
                other => other.to_owned(),
            };
            if !matches!(
                key.as_str(),
                "type"
                    | "from"
                    | "source"
                    | "target"
                    | "readonly"
                    | "readwrite"
                    | "required"
                    | "size"
                    | "id"
                    | "sharing"
                    | "mode"
                    | "uid"
                    | "gid"
                    | "env"
            ) {
                return Err(unsupported(format!("A mount has no option {}. Remove it.", shown(&key))));
            }
            if value.is_none() && !matches!(key.as_str(), "readonly" | "readwrite" | "required") {
                return Err(invalid(format!("The option {key} of a mount needs a value: {key}=…")));
            }
            if key == "type" && value.as_deref() == Some("ssh") {
                return Err(ssh());
            }
            if key == "from" && value.as_deref().is_some_and(|value| value.contains('$')) {
                return Err(invalid(
                    "The option from of a mount takes no variables. Name the image with FROM … AS, and use that name.",
                ));
            }
            fields.push((key, value));
        }
        Ok(Self { fields })
    }

    /// The stage or image that is mounted.
    pub fn from(&self) -> Option<&str> {
        let (_, value) = self.fields.iter().rev().find(|(key, _)| key == "from")?;
        value.as_deref().filter(|value| !value.is_empty() && *value != SCRATCH)
    }

    /// With everything expanded. `trees` are those that [`Self::from`] may name.
    pub fn expand(&self, scope: &Scope<'_>, trees: &BTreeMap<String, Tree>) -> Result<Mount, Refusal> {
        let mut options = Options { kind: "bind".to_owned(), ..Options::default() };
        for (key, value) in &self.fields {
            let value = value.as_deref().map(|value| scope.plain(value)).transpose()?;
            options.take(key, value)?;
        }
        options.mount(scope, self.from().and_then(|name| trees.get(name)))
    }
}

/// What a mount says.
#[derive(Default)]
struct Options {
    kind: String,
    from: Option<String>,
    source: String,
    target: String,
    read_only: Option<bool>,
    required: Option<bool>,
    size_bytes: Option<u64>,
    id: String,
    sharing: Option<Sharing>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

impl Options {
    fn take(&mut self, key: &str, value: Option<String>) -> Result<(), Refusal> {
        let wrong = |expected: &str| invalid(format!("The option {key} of a mount is {expected}."));
        let switch = || match value.as_deref() {
            None => Ok(true),
            Some(text) => flag(text).ok_or_else(|| wrong("`true` or `false`")),
        };
        let text = || value.clone().unwrap_or_default();
        let number = || text().parse::<u32>().map_err(|_| wrong("a number"));
        match key {
            "type" => self.kind = text().to_ascii_lowercase(),
            "from" => self.from = value,
            "source" => self.source = text(),
            "target" => self.target = text(),
            "readonly" => self.read_only = Some(switch()?),
            "readwrite" => self.read_only = Some(!switch()?),
            "required" => self.required = Some(switch()?),
            "size" => self.size_bytes = Some(size_bytes(&text()).ok_or_else(|| wrong("a size such as 64m"))?),
            "id" => self.id = text(),
            "sharing" => {
                self.sharing = Some(match text().to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(wrong("`shared`, `private` or `locked`")),
                });
            }
            "mode" => {
                let mode = octal(&text()).ok_or_else(|| wrong("an octal number from 0 to 7777"))?;
                self.mode = Some(mode);
            }
            "uid" => self.uid = Some(number()?),
            "gid" => self.gid = Some(number()?),
            _ => self.env = Some(text()),
        }
        Ok(())
    }

    fn mount(self, scope: &Scope<'_>, tree: Option<&Tree>) -> Result<Mount, Refusal> {
        let kind = match self.kind.as_str() {
            "bind" => self.bind(tree)?,
            "cache" => self.cache(tree)?,
            "tmpfs" => self.tmpfs()?,
            "secret" => return self.secret(scope),
            "ssh" => return Err(ssh()),
            other => {
                return Err(invalid(format!(
                    "There is no mount of type {}. Use bind, cache, tmpfs or secret.",
                    shown(other)
                )));
            }
        };
        let target = path::join(&scope.config.working_dir, &self.target);
        if target == "/" {
            return Err(invalid("Nothing can be mounted on `/`. Give the mount a target."));
        }
        Ok(Mount { target: Some(target), kind })
    }

    fn bind(&self, tree: Option<&Tree>) -> Result<MountKind, Refusal> {
        self.refuse_file_options()?;
        if self.from.as_deref() == Some(SCRATCH) {
            return Err(unsupported("A mount of type bind from scratch is not supported. Use type=tmpfs."));
        }
        Ok(MountKind::Bind {
            from: tree.cloned().unwrap_or(Tree::Context),
            source: path::inside(&self.source),
            read_write: self.read_only == Some(false),
        })
    }

    fn cache(&self, tree: Option<&Tree>) -> Result<MountKind, Refusal> {
        self.refuse_options(&[("size", self.size_bytes.is_some()), ("required", self.required.is_some())])?;
        let source = path::inside(&self.source);
        if tree.is_none() && source != "." {
            return Err(unsupported("A cache with a source and no from is not supported. Remove source, or add from."));
        }
        Ok(MountKind::Cache {
            id: if self.id.is_empty() { path::clean(&self.target) } else { self.id.clone() },
            sharing: self.sharing.unwrap_or(Sharing::Shared),
            from: tree.map(|tree| (tree.clone(), source)),
            mode: self.mode.unwrap_or(CACHE_MODE),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
            read_only: self.read_only == Some(true),
        })
    }

    fn tmpfs(&self) -> Result<MountKind, Refusal> {
        self.refuse_file_options()?;
        self.refuse_options(&[
            ("from", self.from.is_some()),
            ("source", !self.source.is_empty()),
            ("readonly", self.read_only == Some(true)),
        ])?;
        Ok(MountKind::Tmpfs { size_bytes: self.size_bytes.filter(|size| *size > 0) })
    }

    fn secret(self, scope: &Scope<'_>) -> Result<Mount, Refusal> {
        self.refuse_options(&[
            ("from", self.from.is_some()),
            ("sharing", self.sharing.is_some()),
            ("size", self.size_bytes.is_some()),
        ])?;
        let id = match (self.source.as_str(), self.id.as_str(), self.target.as_str()) {
            ("", "", "") => return Err(invalid("A mount of type secret needs an id: id=NAME.")),
            ("", "", target) => path::base(target).to_owned(),
            ("", id, _) => id.to_owned(),
            (source, "", _) => source.to_owned(),
            _ => return Err(invalid("A mount of type secret has both source and id. Remove source.")),
        };
        if matches!(path::base(&id), "." | ".." | "/") {
            return Err(invalid(format!("{} can't be a secret's id.", shown(&id))));
        }
        let target = match (self.target.as_str(), &self.env) {
            ("", Some(_)) => None,
            ("", None) => Some(format!("/run/secrets/{}", path::base(&id))),
            (target, _) => Some(path::join(&scope.config.working_dir, target)),
        };
        if target.as_deref() == Some("/") {
            return Err(invalid("A secret can't be mounted on `/`. Give the mount a target."));
        }
        let env = self.env.map(|name| if name.is_empty() { id.clone() } else { name });
        if env.as_deref().is_some_and(|name| name.contains('=')) {
            return Err(invalid("The option env of a mount is a variable's name, without `=`."));
        }
        Ok(Mount {
            target,
            kind: MountKind::Secret {
                id,
                required: self.required.unwrap_or(false),
                env,
                mode: self.mode.unwrap_or(SECRET_MODE),
                uid: self.uid.unwrap_or(0),
                gid: self.gid.unwrap_or(0),
            },
        })
    }

    /// What neither bind nor tmpfs has.
    fn refuse_file_options(&self) -> Result<(), Refusal> {
        self.refuse_options(&[
            ("mode", self.mode.is_some()),
            ("uid", self.uid.is_some()),
            ("gid", self.gid.is_some()),
            ("sharing", self.sharing.is_some()),
            ("required", self.required.is_some()),
            ("size", self.kind == "bind" && self.size_bytes.is_some()),
        ])
    }

    fn refuse_options(&self, options: &[(&str, bool)]) -> Result<(), Refusal> {
        match options.iter().find(|(_, used)| *used) {
            None => Ok(()),
            Some((name, _)) => Err(invalid(format!("A mount of type {} has no option {name}. Remove it.", self.kind))),
        }
    }
}

fn ssh() -> Refusal {
    unsupported("A mount of type ssh is not supported. Pass a key as a secret: --mount=type=secret,id=…")
}

/// The fields of one line of comma-separated values (RFC 4180).
fn fields_of(text: &str) -> Result<Vec<String>, Refusal> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, more) = rest.split_once(',').map_or((rest, None), |(field, more)| (field, Some(more)));
            fields.push(field.to_owned());
            match more {
                None => return Ok(fields),
                Some(more) => rest = more,
            }
            continue;
        };
        let mut field = String::new();
        let mut inner = quoted;
        loop {
            let (part, after) =
                inner.split_once('"').ok_or_else(|| invalid("A quote in --mount has no end. Close it."))?;
            field.push_str(part);
            match after.strip_prefix('"') {
                Some(more) => {
                    field.push('"');
                    inner = more;
                }
                None => {
                    inner = after;
                    break;
                }
            }
        }
        fields.push(field);
        match inner.strip_prefix(',') {
            Some(more) => rest = more,
            None if inner.is_empty() => return Ok(fields),
            None => return Err(invalid("In --mount, a comma comes after a quote. Add it.")),
        }
    }
}

/// Yes or no, as Go's `strconv.ParseBool`.
fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A file's mode in octal digits.
pub(crate) fn octal(text: &str) -> Option<u32> {
    if text.starts_with('+') {
        return None;
    }
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

/// A size as Docker reads it: `64m`, `1.5 GiB`; units are powers of 1024.
fn size_bytes(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| letter != '.' && !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if !number.starts_with(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let exponent = match unit.strip_suffix('b').map_or(unit.as_str(), |unit| unit).trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(exponent);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within the range")]
    (bytes < 2f64.powi(63)).then_some(bytes as u64)
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
