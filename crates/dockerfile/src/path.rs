//! Paths as text, as Go's `path` package reads them: always `/`, no file system.

/// The shortest path that means the same; `.` for an empty one. `..` ends at the root of an absolute path.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            _ => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// A path from a directory: absolute and clean.
pub(crate) fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("/{directory}/{path}")) }
}

/// A destination of COPY: absolute, and with what its end says: `/` and `/.` mean a directory.
pub(crate) fn destination(directory: &str, path: &str) -> String {
    let names_directory = matches!(path, "" | "." | "..") || ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    let mut joined = join(directory, path);
    if names_directory && !joined.ends_with('/') {
        joined.push('/');
    }
    joined
}

/// A path in a tree: relative, without `..`; `.` is all of it. What leads out of the tree ends at its root.
pub(crate) fn inside(path: &str) -> String {
    let rooted = join("/", path);
    match rooted.trim_start_matches('/') {
        "" => ".".to_owned(),
        relative => relative.to_owned(),
    }
}

/// The last part of a path, as Go's `path.Base`.
pub(crate) fn base(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("") if path.is_empty() => ".",
        None | Some("") => "/",
        Some(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_go_reads_them() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("a//b/./c/", "a/b/c"),
            ("a/../../b", "../b"),
            ("../../x", "../../x"),
            ("/../a/..", "/"),
            ("/a/b/../c", "/a/c"),
            ("//x", "/x"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        for (path, expected) in [("", "."), ("/", "/"), ("a/b", "b"), ("/a/b/", "b"), ("x", "x")] {
            assert_eq!(base(path), expected, "{path}");
        }
    }

    #[test]
    fn nothing_leads_out_of_a_tree() {
        for (path, expected) in
            [("../../etc/passwd", "etc/passwd"), ("/", "."), ("a/../..", "."), ("/abs/x", "abs/x"), ("./a*", "a*")]
        {
            assert_eq!(inside(path), expected, "{path}");
        }
    }

    #[test]
    fn a_destination_keeps_its_slash() {
        for (path, expected) in [
            ("", "/app/"),
            (".", "/app/"),
            ("./", "/app/"),
            ("x", "/app/x"),
            ("x/", "/app/x/"),
            ("x/.", "/app/x/"),
            ("/", "/"),
            ("/y", "/y"),
            ("..", "/"),
            ("../..", "/"),
        ] {
            assert_eq!(destination("/app", path), expected, "{path}");
        }
    }
}
