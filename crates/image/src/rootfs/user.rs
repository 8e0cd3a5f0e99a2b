//! Who a VM's process runs as: the image's `USER`, looked up in the image's own `etc/passwd` and `etc/group` by docker's
//! rules (moby/sys `user.GetExecUser`), but a line that is none is skipped and never read as root's.

use std::path::Path;

use super::RootfsError;
use super::inside::{read_file, unusable};

/// Bytes of `/etc/passwd` or `/etc/group` that are read.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Bytes of a user's name that a message shows.
const NAME_SHOWN_MAX_BYTES: usize = 64;
/// Bytes of a home directory's path.
const HOME_MAX_BYTES: usize = 4095;
/// More groups than any image gives one user; the kernel itself takes 65,536.
const GROUPS_MAX: usize = 1024;
/// Ids are signed 32 bits where docker reads them.
const ID_MAX: u32 = i32::MAX as u32;

/// Who a VM's process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Further groups, as `etc/group` lists them; none where the image names a group itself.
    pub groups: Vec<u32>,
    /// Home directory; `/` where `etc/passwd` names none.
    pub home: String,
}

/// Finds who `user` is in `root`, by docker's rules: empty (root), `name` or `uid`, each alone or with `:group` or `:gid`.
/// A uid or gid needs no entry; a name does.
///
/// # Errors
/// [`RootfsError::NoSuchUser`]; [`RootfsError::Unusable`] where `etc/passwd` or `etc/group` is not a file of at most 1 MiB.
pub fn find_user(root: &Path, user: &str) -> Result<User, RootfsError> {
    let read =
        |path| Ok(read_file(root, path, FILE_MAX_BYTES)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    let passwd = read("etc/passwd")?.unwrap_or_default();
    let group = read("etc/group")?.unwrap_or_default();
    find_in(&passwd, &group, user)
}

pub(crate) fn find_in(passwd: &str, group: &str, user: &str) -> Result<User, RootfsError> {
    let (user, wanted_group) = user.split_once(':').unwrap_or((user, ""));
    let wanted_uid = if user.is_empty() { Some(0) } else { id(user) };
    let entry = passwd.lines().filter_map(Entry::parse).find(|entry| match wanted_uid {
        Some(uid) => entry.uid == uid,
        None => entry.name == user,
    });
    let (uid, gid) = match (&entry, wanted_uid) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(no_such("user", user)),
    };
    let name = entry.as_ref().map(|entry| entry.name);
    let home = entry.map_or("", |entry| entry.home);
    let home = if usable_home(home) { home } else { "/" }.to_owned();
    let mut found = User { uid, gid, groups: Vec::new(), home };
    if wanted_group.is_empty() {
        if let Some(name) = name {
            let lines = group.lines().filter_map(group_line);
            found.groups =
                lines.filter(|(_, _, members)| members.split(',').any(|one| one == name)).map(|g| g.1).collect();
            if found.groups.len() > GROUPS_MAX {
                return Err(unusable("etc/group", "lists too many groups for one user"));
            }
        }
    } else {
        found.gid = match id(wanted_group) {
            Some(gid) => gid,
            None => {
                let line = group.lines().filter_map(group_line).find(|(name, _, _)| *name == wanted_group);
                line.map(|(_, gid, _)| gid).ok_or_else(|| no_such("group", wanted_group))?
            }
        };
    }
    Ok(found)
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Entry<'a> {
    /// `name:password:uid:gid:gecos:home:shell`, passwd(5); the fields after the gid may be missing.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    }
}

/// `name:password:gid:member,member`, group(5).
fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = id(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn id(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?.filter(|id| *id <= ID_MAX)
}

fn usable_home(home: &str) -> bool {
    home.starts_with('/') && home.len() <= HOME_MAX_BYTES && !home.contains(['\0', '\u{fffd}'])
}

fn no_such(kind: &'static str, name: &str) -> RootfsError {
    let name = name[..name.floor_char_boundary(NAME_SHOWN_MAX_BYTES)].escape_debug().to_string();
    RootfsError::NoSuchUser { kind, name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\n# a comment\nbroken\nalso:x:broken:1::/a:\n\
        app:x:1000:1001:App:/home/app:/bin/sh\nsecond:x:1000:7::/second:\nnohome:x:5:6\nodd:x:8:8::relative:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nbroken\nwheel:x:10:root,app\napp:x:1001:\nvideo:x:44:app,other\nappx:x:99:appx\n";

    fn found(user: &str) -> (u32, u32, Vec<u32>, String) {
        let user = find_in(PASSWD, GROUP, user).expect("in the files");
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn dockers_rules_hold() {
        let app = || "/home/app".to_owned();
        assert_eq!(found(""), (0, 0, vec![10], "/root".to_owned()));
        assert_eq!(found("root"), found(""));
        assert_eq!(found("0"), found(""));
        assert_eq!(found("app"), (1000, 1001, vec![10, 44], app()));
        assert_eq!(found("1000"), found("app"), "the first entry of a uid counts");
        assert_eq!(found("app:video"), (1000, 44, vec![], app()));
        assert_eq!(found("app:12345"), (1000, 12345, vec![], app()));
        assert_eq!(found("app:"), found("app"));
        assert_eq!(found(":video"), (0, 44, vec![], "/root".to_owned()));
        assert_eq!(found("4242"), (4242, 0, vec![], "/".to_owned()));
        assert_eq!(found("4242:wheel"), (4242, 10, vec![], "/".to_owned()));
        assert_eq!(found("nohome"), (5, 6, vec![], "/".to_owned()));
        assert_eq!(found("odd").3, "/");
    }

    #[test]
    fn a_name_that_nobody_has_is_refused_and_never_root() {
        for user in
            ["ghost", "broken", "also", "-1", "2147483648", "99999999999999999999", " app", "app\n", "# a comment"]
        {
            let error = find_in(PASSWD, GROUP, user).expect_err(user);
            assert!(matches!(error, RootfsError::NoSuchUser { kind: "user", .. }), "{user}: {error}");
        }
        for user in ["app:ghost", "app:-1", "0:broken", "app:wheel:more"] {
            let error = find_in(PASSWD, GROUP, user).expect_err(user);
            assert!(matches!(error, RootfsError::NoSuchUser { kind: "group", .. }), "{user}: {error}");
        }
        let long = "x".repeat(10_000);
        assert!(find_in(PASSWD, GROUP, &long).expect_err("nobody").to_string().len() < 200);
    }

    proptest! {
        #[test]
        fn any_files_are_read_without_panic(passwd in "[a-z0:,\n\u{e9}]{0,80}", group in "[a-z0:,\n]{0,80}", user in "[a-z0:]{0,9}") {
            let _ = find_in(&passwd, &group, &user);
        }
    }
}
