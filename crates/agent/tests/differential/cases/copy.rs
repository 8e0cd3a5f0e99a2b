//! COPY and ADD: what is taken, where it goes, and as what.

use cakework_testkit::images::{Entry, tar};

use super::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "copy-file-to-name",
            "a file to a name, and into a directory",
            "FROM $BASE\nCOPY a.txt /b\nCOPY a.txt /d/",
        )
        .file("a.txt", "a"),
        case("copy-dir-contents", "a directory's contents, not itself", "FROM scratch\nCOPY d /x\nCOPY d/ /y/")
            .file("d/one", "1")
            .file("d/sub/two", "2"),
        case("copy-all", "the whole context", "FROM scratch\nCOPY . /").file("a", "a").file("b/c", "c"),
        case("copy-glob", "patterns", "FROM scratch\nCOPY *.txt /t/\nCOPY d/?.[ab] /u/\nCOPY d*/one* /v/")
            .file("a.txt", "a")
            .file("b.txt", "b")
            .file("c.md", "c")
            .file("d/x.a", "xa")
            .file("d/y.b", "yb")
            .file("d/zz.a", "zza")
            .file("d/one", "1")
            .file("d2/one2", "12"),
        case("copy-glob-dirs", "a pattern that matches directories", "FROM scratch\nCOPY d* /x/")
            .file("d1/one", "1")
            .file("d2/two", "2"),
        case(
            "copy-list-form",
            "names with spaces in the list form",
            "FROM scratch\nCOPY [\"a file\", \"b\", \"/to here/\"]",
        )
        .file("a file", "a")
        .file("b", "b"),
        case("copy-over-file", "a file over another", "FROM $BASE\nRUN echo old > /x && chmod 0600 /x\nCOPY a /x")
            .file("a", "new"),
        case(
            "copy-merges-dirs",
            "a directory into one that is there",
            "FROM $BASE\nRUN mkdir -p -m 0700 /x/sub && echo old > /x/sub/old && echo old > /x/both\nCOPY d /x",
        )
        .file("d/sub/new", "new")
        .file("d/both", "new"),
        case(
            "copy-through-link",
            "into a directory that is a link",
            "FROM $BASE\nRUN mkdir /real && ln -s /real /link\nCOPY a /link/a\nCOPY d /link/",
        )
        .file("a", "a")
        .file("d/b", "b"),
        case(
            "copy-relative",
            "destinations below WORKDIR",
            "FROM $BASE\nWORKDIR /w\nCOPY a b\nCOPY a ./c/\nCOPY a ../d",
        )
        .file("a", "a"),
        case("copy-modes", "modes of files and directories", "FROM scratch\nCOPY . /x/")
            .mode("a", 0o600)
            .mode("b", 0o755)
            .mode("c", 0o444)
            .entry(Entry::Dir { path: "d".into(), mode: 0o700 })
            .mode("d/e", 0o640),
        case("copy-special-bits", "setuid, setgid and sticky", "FROM scratch\nCOPY . /x/")
            .mode("suid", 0o4755)
            .mode("sgid", 0o2755)
            .entry(Entry::Dir { path: "sticky".into(), mode: 0o1777 })
            .mode("sticky/a", 0o644)
            .differs(
                &["tree /x/sgid", "tree /x/suid"],
                "buildah takes setuid and setgid away; BuildKit and this executor keep modes",
            ),
        case("copy-symlinks", "links below a source", "FROM scratch\nCOPY d /x/")
            .file("d/a", "a")
            .entry(Entry::symlink("d/near", "a"))
            .entry(Entry::symlink("d/far", "/etc/passwd"))
            .entry(Entry::symlink("d/dangling", "nothing")),
        case("copy-symlink-source", "a source that is a link", "FROM scratch\nCOPY link /x\nCOPY dirlink /y/")
            .file("a", "a")
            .entry(Entry::symlink("link", "a"))
            .file("d/b", "b")
            .entry(Entry::symlink("dirlink", "d")),
        case("copy-hardlinks", "two names of a file", "FROM scratch\nCOPY . /x/")
            .file("a", "a")
            .entry(Entry::Hardlink { path: "b".into(), target: "a".into() })
            .differs(&["tree /x/a", "tree /x/b"], "two names of one file of the context become two files here"),
        case("copy-empty-dir", "a directory with nothing in it", "FROM scratch\nCOPY d /x")
            .entry(Entry::Dir { path: "d".into(), mode: 0o750 }),
        case("copy-chown-numbers", "owners by number", "FROM $BASE\nCOPY --chown=12:34 a /a\nCOPY --chown=12 d /d/")
            .file("a", "a")
            .file("d/b", "b"),
        case(
            "copy-chown-names",
            "owners by name",
            "FROM $BASE\nCOPY --chown=app:staff a /a\nCOPY --chown=app a /b\nCOPY --chown=app:7 a /n/c",
        )
        .file("a", "a"),
        case("copy-chown-unknown", "an owner who is not there", "FROM $BASE\nCOPY --chown=nobodyhere a /a")
            .file("a", "a")
            .refused(),
        case("copy-chmod", "modes by number", "FROM scratch\nCOPY --chmod=0640 a /a\nCOPY --chmod=755 d /d/")
            .file("a", "a")
            .file("d/b", "b"),
        case("copy-exclude", "what is left out", "FROM scratch\nCOPY --exclude=*.md --exclude=sub/skip d /x/")
            .file("d/a", "a")
            .file("d/b.md", "b")
            .file("d/sub/keep", "k")
            .file("d/sub/skip", "s")
            .differs(
                &["tree /x/b.md", "tree /x/sub/skip"],
                "buildah 1.39 leaves nothing out of a directory's contents",
            ),
        case(
            "copy-heredoc",
            "files written out",
            "FROM $BASE\nENV NAME=value\nCOPY <<one <<\"two\" /x/\nplain $NAME\none\nquoted $NAME\ntwo\nCOPY <<EOF /y\nsingle ${NAME:-none}\nEOF",
        ),
        case(
            "copy-heredoc-tabs",
            "with leading tabs taken off",
            "FROM scratch\nCOPY <<-EOF /x\n\tindented\n\t\ttwice\n\tEOF",
        ),
        case("copy-missing", "a source that is not there", "FROM scratch\nCOPY nothing /x").refused(),
        case("copy-glob-nothing", "a pattern that matches nothing", "FROM scratch\nCOPY *.none /x/")
            .file("a", "a")
            .refused(),
        case("copy-outside", "a source above the context", "FROM scratch\nCOPY ../a /x").file("a", "a"),
        case("copy-many-to-file", "several sources, no directory", "FROM scratch\nCOPY a b /x")
            .file("a", "a")
            .file("b", "b"),
        case("copy-dir-over-file", "a directory where a file is", "FROM $BASE\nRUN echo file > /x\nCOPY d /x")
            .file("d/a", "a")
            .refused(),
        case("copy-file-over-dir", "a file where a directory is", "FROM $BASE\nRUN mkdir -p /x\nCOPY a /x")
            .file("a", "a"),
        case("add-tar", "a local archive is unpacked", "FROM scratch\nADD x.tar /x/").entry(Entry::File {
            path: "x.tar".into(),
            mode: 0o644,
            bytes: tar(&[
                Entry::dir("d"),
                Entry::program("d/run", "r"),
                Entry::symlink("d/l", "run"),
                Entry::file("top", "t"),
            ]),
        }),
        case("add-tar-gz", "and a packed one", "FROM scratch\nADD x.tgz /").entry(Entry::File {
            path: "x.tgz".into(),
            mode: 0o644,
            bytes: crate::builder::gzipped(&[Entry::dir("d"), Entry::file("d/a", "a")]),
        }),
        case("copy-tar", "COPY unpacks nothing", "FROM scratch\nCOPY x.tar /x/").entry(Entry::File {
            path: "x.tar".into(),
            mode: 0o644,
            bytes: tar(&[Entry::file("a", "a")]),
        }),
        case("add-plain", "ADD of files that are no archives", "FROM scratch\nADD a d /x/")
            .file("a", "a")
            .file("d/b", "b"),
        case(
            "add-tar-over",
            "an archive over what is there",
            "FROM $BASE\nRUN mkdir -m 0700 /x && echo old > /x/a\nADD x.tar /x/",
        )
        .entry(Entry::File {
            path: "x.tar".into(),
            mode: 0o644,
            bytes: tar(&[Entry::file("a", "new"), Entry::file("b", "b")]),
        }),
        case("ignore-basic", "names, patterns, comments", "FROM scratch\nCOPY . /x/")
            .file(".dockerignore", "# words\n*.log\n/secret\nd/*/deep\n\n")
            .file("a", "a")
            .file("a.log", "no")
            .file("d/b.log", "yes: the pattern is of the top")
            .file("secret", "no")
            .file("d/secret", "yes")
            .file("d/e/deep", "no")
            .file("d/e/other", "yes"),
        case("ignore-exceptions", "exceptions, the last that matches decides", "FROM scratch\nCOPY . /x/")
            .file(".dockerignore", "*\n!keep\n!d/**\nd/not\n")
            .file("keep", "k")
            .file("drop", "d")
            .file("d/yes", "y")
            .file("d/not", "n")
            .file("d/sub/yes", "y"),
        case("ignore-double-star", "patterns over directories", "FROM scratch\nCOPY . /x/")
            .file(".dockerignore", "**/*.tmp\n**/cache\n!d/keep.tmp\n")
            .file("a.tmp", "no")
            .file("d/b.tmp", "no")
            .file("d/keep.tmp", "yes")
            .file("d/cache/x", "no")
            .file("d/e/cache/y", "no")
            .file("d/e/z", "yes"),
        case("ignore-refuses", "what is ignored can't be copied", "FROM scratch\nCOPY a.log /x")
            .file(".dockerignore", "*.log")
            .file("a.log", "a")
            .file("b", "b")
            .refused(),
    ]
}
