//! Contexts and archives that no honest tool would make, and commands that make what no layer should hold.

use cakework_core::build::BuildErrorCode;
use cakework_testkit::images::{Entry, digest};
use cakework_testkit::kernel::Census;
use cakework_wire::build::{BuildObservation, Secrets};

use crate::builder::{Builds, Recipe, assert_problem, gzipped};

/// A directory of the host that nothing may come into.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("a path")
    }

    fn assert_untouched(&self, what: &str) {
        assert_eq!(std::fs::read_dir(self.path()).expect("it is there").count(), 0, "{what}");
    }

    /// Entries that would harm the host, and what the refusal has to name.
    fn attacks(&self) -> Vec<(Vec<Entry>, String)> {
        let out = self.path();
        let up = format!("{}{out}/written", "../".repeat(12));
        let hard = |path: &str, target: &str| Entry::Hardlink { path: path.into(), target: target.into() };
        let device = |major| Entry::CharDevice { path: "dir/node".into(), major, minor: 0 };
        vec![
            (vec![Entry::file(&up, "x")], up.clone()),
            (vec![Entry::symlink("d", out), Entry::file("d/written", "x")], "d/written".into()),
            (vec![Entry::symlink("d", out), Entry::dir("d/e/f")], "d/e/f".into()),
            (vec![Entry::symlink("d", "../../.."), hard("e", "d/etc/passwd")], "“e”".into()),
            (vec![hard("h", "/etc/passwd")], "“h”".into()),
            (vec![hard("h", &up)], up.clone()),
            (vec![device(1)], "dir/node".into()),
            // Which is what a whiteout is on an overlay.
            (vec![device(0)], "dir/node".into()),
            (vec![Entry::file("sub/.wh.etc", "")], "sub/.wh.etc".into()),
            (vec![Entry::file(".wh..wh..opq", "")], ".wh..wh..opq".into()),
            (vec![Entry::file("a", ""), Entry::file("a/b", "")], "a/b".into()),
        ]
    }
}

#[tokio::test]
async fn a_hostile_context_is_refused_and_the_host_unharmed() {
    let (builds, outside) = (Builds::started().await, Outside::new());
    builds.good(&Recipe::new("FROM $BASE\nRUN echo x > /x\n")).await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    for (entries, named) in outside.attacks() {
        let recipe = entries.into_iter().fold(Recipe::new("FROM $BASE\nCOPY . /c\n"), Recipe::entry);
        let problem = builds.bad(&recipe).await;
        assert_eq!((problem.code, problem.line), (BuildErrorCode::SourceInvalid, None), "{named}: {problem:?}");
        assert!(problem.message.contains(&named), "{named}: {problem:?}");
        outside.assert_untouched(&named);
    }
    builds.host.assert_nothing_since(&before);
}

#[tokio::test]
async fn a_hostile_archive_of_add_is_refused_and_the_host_unharmed() {
    let (builds, outside) = (Builds::started().await, Outside::new());
    let add = |entries: &[Entry]| {
        Recipe::new("FROM $BASE\nADD in/a.tgz /x/\n").entry(Entry::file("in/a.tgz", gzipped(entries)))
    };
    for (entries, named) in outside.attacks() {
        let problem = builds.bad(&add(&entries)).await;
        assert_problem(&problem, BuildErrorCode::CopyFailed, 2, &named);
        assert!(problem.message.contains("in/a.tgz"), "{problem:?}");
        outside.assert_untouched(&named);
    }
    // 600 MB in less than one, for a disk of 256 MiB; and more entries than an archive may have.
    let problem = builds.bad(&add(&[Entry::file("zeros", vec![0; 600 << 20])])).await;
    assert_problem(&problem, BuildErrorCode::CopyFailed, 2, "larger");
    let outcome = builds.good(&add(&[Entry::program("tool", "")]).replace("/x/\n", "/x/\nRUN test -x /x/tool\n")).await;
    assert!(!outcome.digest().is_empty());
}

#[tokio::test]
async fn what_is_odd_and_harmless_is_kept() {
    let builds = Builds::started().await;
    let setuid = |path: &str| Entry::File { path: path.into(), mode: 0o6755, bytes: Vec::new() };
    let recipe = Recipe::new(
        "FROM $BASE AS made
         RUN touch /su /plain && chmod 4711 /su && chmod 1777 /plain && ln /su /twin && ln -s /su /link
         FROM $BASE
         COPY . /c
         ADD a.tgz /a/
         COPY --from=made /su /twin /plain /link /m/
         RUN stat -c '%a %F %n' /c/absolute /c/su /c/pipe /a/su /a/pipe /m/su /m/twin /m/plain /m/link
         RUN test $(stat -c %i /c/one) != $(stat -c %i /c/two) && cat /c/one /c/two",
    )
    .entry(Entry::file("/absolute", ""))
    .entry(setuid("su"))
    .entry(Entry::Fifo { path: "pipe".into() })
    .file("one", "linked\n")
    .entry(Entry::Hardlink { path: "two".into(), target: "one".into() })
    .entry(Entry::file("a.tgz", gzipped(&[setuid("su"), Entry::Fifo { path: "pipe".into() }])));
    let outcome = builds.good(&recipe).await;
    for line in [
        "644 regular empty file /c/absolute",
        "6755 regular empty file /c/su",
        "644 fifo /c/pipe",
        "6755 regular empty file /a/su",
        "644 fifo /a/pipe",
        "4711 regular empty file /m/su",
        "4711 regular empty file /m/twin",
        "1777 regular empty file /m/plain",
        "4711 regular empty file /m/link",
        "linked",
    ] {
        assert!(outcome.says(line), "{line}: {}", outcome.text());
    }
}

#[tokio::test]
async fn a_command_makes_no_whiteout_no_device_and_no_pipe_that_stays() {
    let builds = Builds::started().await;
    let problem = builds.bad(&Recipe::new("FROM $BASE\nRUN mkdir /d && touch /d/.wh.etc\n")).await;
    assert_problem(&problem, BuildErrorCode::CommandFailed, 2, "d/.wh.etc");
    for node in ["c 0 0", "c 1 5", "b 7 0"] {
        let problem = builds.bad(&Recipe::new(&format!("FROM $BASE\nRUN mknod /node {node}\n"))).await;
        assert_problem(&problem, BuildErrorCode::CommandFailed, 2, "exit code 1");
    }
    let pipe = Recipe::new("FROM $BASE\nRUN mkfifo /pipe && test -p /pipe\nRUN ls / && test ! -e /pipe\n");
    assert!(builds.good(&pipe).await.says("bin"));
}

/// A cache mount is a tree that strangers' commands write to, and that later mounts are placed in.
#[tokio::test]
async fn a_mount_is_placed_through_no_link_that_leads_out() {
    let (builds, outside) = (Builds::started().await, Outside::new());
    let out = outside.path();
    let up = format!("{}{out}", "../".repeat(12));
    let recipe = Recipe::new(&format!(
        "FROM $BASE
         RUN --mount=type=cache,target=/c ln -s {out} /c/absolute && ln -s {up} /c/up && ln -s {out}/new /c/dangling
         RUN ln -s {out} /absolute && ln -s {up} /up && ln -s {out}/new /dangling"
    ));
    builds.good(&recipe).await;
    for link in ["absolute/new", "up/new", "dangling"] {
        for target in [format!("/c/{link}"), format!("/{link}")] {
            for mount in ["tmpfs", "bind,source=file", "bind,rw", "cache,id=other", "secret,id=s"] {
                let run = format!("RUN --mount=type=cache,target=/c --mount=type={mount},target={target} true\n");
                let recipe = recipe.clone().line(&run).file("file", "");
                let secret = Secrets::new([("s".into(), "value".into())]);
                let outcome = builds.build(&recipe.with(|put| put.secrets = secret)).await;
                // It has a place inside, or is refused with its line.
                if let BuildObservation::Failed { problem } = &outcome.observation {
                    assert_problem(problem, BuildErrorCode::CommandFailed, 4, "");
                }
                outside.assert_untouched(&run);
            }
        }
        let work = format!("WORKDIR /{link}\nRUN pwd > here\nCOPY <<EOF /{link}/file\ntext\nEOF\nRUN cat here file\n");
        let outcome = builds.good(&recipe.clone().line(&work)).await;
        assert!(outcome.says("text"), "{}", outcome.text());
        outside.assert_untouched(&work);
    }
}

#[tokio::test]
async fn what_is_no_archive_is_said_to_be_none() {
    let builds = Builds::started().await;
    let build = cakework_core::id::BuildId::mint(&mut rand::rng());
    let junk = vec![0xa5; 4096];
    let name = digest(&junk);
    assert_eq!(builds.put_context(&build, &name, junk).await.status, 200);
    let put = Recipe::new(&format!("FROM {}\n", builds.base)).put(&name);
    builds.put_only(&build, &put).await;
    let outcome = builds.outcome(build).await;
    assert!(
        matches!(&outcome.observation, BuildObservation::Failed { problem }
                 if problem.code == BuildErrorCode::SourceInvalid),
        "{:?}",
        outcome.observation
    );
}
