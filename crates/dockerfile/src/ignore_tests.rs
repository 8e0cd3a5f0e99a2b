use super::*;

fn excludes(patterns: &str, path: &str) -> bool {
    Ignore::parse(patterns).unwrap().excludes(path)
}

#[test]
fn patterns_mean_what_moby_says() {
    for (patterns, path, expected) in [
        ("**", "file", true),
        ("**", "a/b/c", true),
        ("**/", "file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("dir/**", "dirx/file", false),
        ("**/dir", "dir", true),
        ("**/dir", "a/dir", true),
        ("**/dir", "a/dir/b", true),
        ("**/dir", "adir", false),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**file", "dir/dir2/file", true),
        ("**file", "afile", true),
        ("**file?", "afilex", false),
        ("**/file", "afile", false),
        ("**/file*txt", "dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt.x", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/xb", false),
        ("a/**/b/**/c", "a/b/b/x/c", true),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b]c", "axc", true),
        ("a[^b]c", "a/c", false),
        ("a[\\]x]c", "a]c", true),
        ("abc.def", "abcdef", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("a(b)|c$", "a(b)|c$", true),
        ("*", "a", true),
        ("*", "a/b", true),
        ("*.go", "a/b.go", false),
        ("*/*.go", "a/b.go", true),
        ("a", "a/b/c", true),
        ("a", "ab", false),
        ("a/", "a", true),
        ("a/", "a/b", true),
        ("/a", "a", true),
        ("/a", "b/a", false),
        ("./a", "a", true),
        ("a/../b", "b", true),
        ("../a", "a", false),
        (".", "a", false),
        ("/", "a", false),
        (".*", ".git", true),
        (".*", "a", false),
        ("*\n!a", "a", false),
        ("*\n!a", "a/b", false),
        ("*\n!a\na/b", "a/b", true),
        ("!a\n*", "a", true),
        ("*\n!a/b", "a/b", false),
        ("*\n!a/b", "a/c", true),
        ("**\n!dir", "dir/file", false),
        ("dir\n!dir/*.md\ndir/x.md", "dir/x.md", true),
        ("dir\n!dir/*.md\ndir/x.md", "dir/y.md", false),
        ("# a\nb", "# a", false),
        (" # a", "# a", true),
        ("  a  ", "a", true),
        ("! a", "a", false),
        ("*\n ! a ", "a", false),
        ("", "a", false),
        ("\u{feff}a", "a", true),
        ("a\r\nb\r\n", "a", true),
        ("Dockerfile\n.dockerignore", "Dockerfile", true),
        ("ü?", "üß", true),
        ("ab[", "x", false),
    ] {
        if patterns == "ab[" {
            assert!(Ignore::parse(patterns).is_err());
            continue;
        }
        assert_eq!(excludes(patterns, path), expected, "{patterns:?} {path:?}");
    }
}

#[test]
fn what_is_no_pattern_is_refused() {
    for patterns in ["a\n!", "x\n[", "a[]", "a[]b]", "a[-x]", "a[x-]", "a\\", "[^]a]", "a[b", "[a-"] {
        let fault = Ignore::parse(patterns).unwrap_err();
        assert!(fault.line >= 1 && !fault.message.is_empty(), "{patterns}");
    }
    assert_eq!(Ignore::parse("a\n\n[").unwrap_err().line, 3);
    assert!(Ignore::parse(&"a\n".repeat(1001)).is_err());
    assert!(Ignore::parse(&"a".repeat(5000)).is_err());
    assert!(Ignore::parse(&"#".repeat(DOCKERFILE_MAX_BYTES + 1)).is_err());
}

#[test]
fn a_directory_is_passed_over_when_nothing_below_may_stay() {
    for (patterns, directory, expected) in [
        ("a", "a", true),
        ("a", "b", false),
        ("a", "a/b", true),
        ("a/*", "a", false),
        ("*\n!a/b", "a", false),
        ("*\n!a/b", "b", true),
        ("*\n!a/b", "a/c", true),
        ("*\n!**/x", "a", false),
        ("*\n!*.md", "a", true),
        ("!a/b\na", "a", true),
        ("a\n!a/b\na", "a", true),
        ("a\n!a/b/*\n", "a/b", false),
    ] {
        assert_eq!(Ignore::parse(patterns).unwrap().prunes(directory), expected, "{patterns:?} {directory}");
    }
}

#[test]
fn sources_are_gos_patterns() {
    for (pattern, path, expected) in [
        ("a", "a", true),
        ("*.txt", "a.txt", true),
        ("*.txt", "d/a.txt", false),
        ("*/a", "d/a", true),
        ("**", "d/a", false),
        ("**/a", "d/a", true),
        ("**/a", "d/e/a", false),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("[[]x]", "[x]", true),
        ("a\\*", "a*", true),
        ("", "", true),
        ("*", "", true),
    ] {
        assert_eq!(Pattern::parse(pattern).unwrap().matches(path), expected, "{pattern} {path}");
    }
    assert_eq!(Pattern::parse("a/b.c").unwrap().literal(), Some("a/b.c"));
    assert_eq!(Pattern::parse("a\\[b").unwrap().literal(), Some("a[b"));
    assert_eq!(Pattern::parse("a*").unwrap().literal(), None);
    assert_eq!(Pattern::parse("[a]").unwrap().literal(), None);
    assert!(Pattern::parse("[").is_none() && Pattern::parse("a\\").is_none());
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([!#]?[ab*?\\[\\]\\\\^/.-]{0,8}\n?){0,6}", path in "[ab/.*-]{0,12}") {
            if let Ok(ignore) = Ignore::parse(&text) {
                let excluded = ignore.excludes(&path);
                if ignore.prunes(&path) {
                    prop_assert!(excluded);
                    for below in ["a", "b/a", "*", "a.b/.."] {
                        let below = format!("{path}/{below}");
                        prop_assert!(ignore.excludes(&below), "{:?} {}", text, below);
                    }
                }
            }
            if let Some(pattern) = Pattern::parse(&text) {
                pattern.matches(&path);
            }
        }

        #[test]
        fn a_long_pattern_takes_bounded_time(letters in "[a*?]{0,900}") {
            let pattern = Pattern::parse(&letters).unwrap();
            pattern.matches(&"a".repeat(900));
        }
    }
}
