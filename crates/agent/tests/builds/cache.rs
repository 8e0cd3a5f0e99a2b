//! The cache: what changes rebuilds exactly the steps that depend on it, and nobody finds what another made.

use cakework_testkit::images::Entry;
use cakework_wire::build::Secrets;

use crate::builder::{Builds, Outcome, Recipe};
use crate::host::shell;

const DOCKERFILE: &str = "FROM $BASE
ARG FLAVOUR=plain
ARG UNUSED=1
ENV LEVEL=1
COPY early.txt /early/
RUN cat /early/early.txt && head -c 16 /dev/urandom > /early/when
COPY late.txt program /late/
RUN echo $FLAVOUR > /late/flavour
";

fn recipe() -> Recipe {
    Recipe::new(DOCKERFILE)
        .file("early.txt", "early")
        .file("late.txt", "late")
        .entry(Entry::program("program", "#!/bin/sh\n"))
}

/// The steps after the ones that only configure: COPY early, RUN, COPY late, RUN.
fn executed(outcome: &Outcome) -> Vec<u32> {
    outcome.steps().0.into_iter().filter(|step| *step > 4).collect()
}

/// A variable counts where it is used: a RUN sees all of them, a COPY those that it names.
#[tokio::test]
async fn exactly_what_depends_on_a_change_is_built_again() {
    let builds = Builds::started().await;
    let first = builds.good(&recipe()).await;
    assert_eq!(executed(&first), [5, 6, 7, 8]);
    let again = builds.good(&recipe()).await;
    assert_eq!((executed(&again), again.steps().1), (vec![], vec![5, 6, 7, 8]));
    assert_eq!(again.digest(), first.digest(), "the same input makes the same image");

    let cases: [(&str, Recipe, &[u32]); 8] = [
        ("a byte", recipe().with_file("early.txt", Entry::file("early.txt", "Early")), &[5, 6, 7, 8]),
        ("a byte of a later file", recipe().with_file("late.txt", Entry::file("late.txt", "Late")), &[7, 8]),
        ("a mode", recipe().with_file("program", Entry::file("program", "#!/bin/sh\n")), &[7, 8]),
        ("a file that nobody copies", recipe().file("unused", "x"), &[]),
        ("an ARG", recipe().arg("FLAVOUR", "sweet"), &[6, 7, 8]),
        ("a command", recipe().replace("> /late/flavour", ">> /late/flavour"), &[8]),
        ("an owner", recipe().replace("COPY late", "COPY --chown=1000 late"), &[7, 8]),
        ("an ENV", recipe().replace("LEVEL=1", "LEVEL=2"), &[6, 7, 8]),
    ];
    for (what, changed, steps) in cases {
        let outcome = builds.good(&changed).await;
        assert_eq!(executed(&outcome), steps, "{what}: {}", outcome.text());
    }
}

#[tokio::test]
async fn a_scope_finds_its_own_steps_only() {
    let builds = Builds::started().await;
    let first = builds.good(&recipe()).await;
    let other = builds.good(&recipe().with(|put| put.scope = "B".into())).await;
    assert_eq!(executed(&other), [5, 6, 7, 8]);
    assert_ne!(first.digest(), other.digest(), "what is random in it tells that it was made anew");
    let anew = builds.good(&recipe().with(|put| put.no_cache = true)).await;
    assert_eq!(executed(&anew), [5, 6, 7, 8]);
    let found = builds.good(&recipe()).await;
    assert_eq!((executed(&found), found.digest()), (vec![], anew.digest()), "what was built anew is what is found");
}

#[tokio::test]
async fn files_alone_make_the_same_image_without_a_cache() {
    let builds = Builds::started().await;
    let recipe = Recipe::new(
        "FROM $BASE
         WORKDIR /srv
         COPY . .
         COPY <<EOF inline
         text
         EOF",
    )
    .entry(Entry::dir("dir"))
    .file("dir/a", "a")
    .file("b", "b")
    .with(|put| put.no_cache = true);
    let first = builds.good(&recipe).await;
    assert_eq!(builds.good(&recipe).await.digest(), first.digest());
}

#[tokio::test]
async fn a_stage_that_nobody_needs_is_not_built_and_one_that_changed_rebuilds_its_users() {
    let builds = Builds::started().await;
    let recipe = |content: &str| {
        Recipe::new(
            "FROM $BASE AS unused
             RUN exit 1
             FROM $BASE AS made
             COPY in /out
             FROM $BASE
             COPY --from=made /out /out
             RUN cat /out",
        )
        .file("in", content)
    };
    let first = builds.good(&recipe("one")).await;
    assert_eq!(first.steps(), ((1..=5).collect(), vec![]), "{}", first.text());
    let again = builds.good(&recipe("one")).await;
    assert_eq!(again.steps(), (vec![1, 3], vec![2, 4, 5]), "{}", again.text());
    let changed = builds.good(&recipe("two")).await;
    assert_eq!(changed.steps(), ((1..=5).collect(), vec![]), "{}", changed.text());
}

#[tokio::test]
async fn the_cache_outlives_the_agent() {
    let mut builds = Builds::started().await;
    let first = builds.good(&recipe()).await;
    builds.host.kill();
    builds.host.start().await;
    let again = builds.good(&recipe()).await;
    assert_eq!((executed(&again), again.digest()), (vec![], first.digest()));
    let old = builds.report(&first.build).await.expect("it is reported again");
    assert_eq!(old.observation, first.observation);
    assert!(!builds.lines(&first.build).await.is_empty());
}

/// Steps: 2 COPY in another stage; 6 COPY, 7 COPY from there, 8 WORKDIR, 9 RUN with a mount, 10 COPY of a text, 12 RUN.
const READS: &str = "FROM $BASE AS made
COPY seed /seed
FROM $BASE
ARG TAG=one
LABEL tag=$TAG
COPY dir/ /dir/
COPY --from=made /seed /seed
WORKDIR /w
RUN --mount=type=bind,source=bound,target=/b cat /b
COPY <<EOF /text
text
EOF
USER app
RUN id -u
ARG LAST=1
";

#[tokio::test]
async fn what_a_step_reads_counts_and_what_it_does_not_read_does_not() {
    const STEPS: [u32; 7] = [2, 6, 7, 8, 9, 10, 12];
    let executed =
        |outcome: &Outcome| outcome.steps().0.into_iter().filter(|step| STEPS.contains(step)).collect::<Vec<_>>();
    let recipe = || {
        Recipe::new(READS)
            .file("seed", "seed")
            .entry(Entry::dir("dir"))
            .file("dir/a", "a")
            .entry(Entry::program("dir/b", "b"))
            .entry(Entry::symlink("dir/link", "a"))
            .file("bound", "bound")
    };
    let ignoring = |text: &str| recipe().with(|put| put.dockerignore = Some(text.into()));
    let secrets = || Secrets::new([("key".into(), "value".into())]);
    let builds = Builds::started().await;
    let first = builds.good(&recipe()).await;
    assert_eq!(executed(&first), STEPS);
    let from_copy = &STEPS[1..];
    let cases: [(&str, Recipe, &[u32]); 21] = [
        ("nothing", recipe(), &[]),
        ("an ARG that nothing declares", recipe().arg("ELSEWHERE", "x"), &[]),
        ("an ARG that nothing follows", recipe().arg("LAST", "2"), &[]),
        ("an ARG, for those who see it", recipe().arg("TAG", "two"), &[9, 10, 12]),
        ("a LABEL", recipe().replace("LABEL tag=", "LABEL name="), &[]),
        ("a stage's name", recipe().replace("made", "other"), &[]),
        ("a secret that nothing mounts", recipe().with(|put| put.secrets = secrets()), &[]),
        ("a file that is read by nobody", recipe().file("unread", ""), &[]),
        ("an ignored file that is read by nobody", ignoring("unread\n").file("unread", ""), &[]),
        ("an ignored file that is read", ignoring("dir/a\n"), from_copy),
        ("a mode", recipe().with_file("dir/a", Entry::program("dir/a", "a")), from_copy),
        ("a name", recipe().with_file("dir/a", Entry::file("dir/c", "a")), from_copy),
        ("an empty directory", recipe().entry(Entry::dir("dir/empty")), from_copy),
        ("another link", recipe().entry(Entry::symlink("dir/more", "b")), from_copy),
        ("a link's target", recipe().with_file("dir/a", Entry::symlink("dir/a", "b")), from_copy),
        ("what another stage copies", recipe().with_file("seed", Entry::file("seed", "other")), &[2, 7, 8, 9, 10, 12]),
        ("what is mounted", recipe().with_file("bound", Entry::file("bound", "other")), &[9, 10, 12]),
        ("a text", recipe().replace("text\nEOF", "texts\nEOF"), &[10, 12]),
        ("a USER", recipe().replace("USER app", "USER root"), &[12]),
        ("a WORKDIR", recipe().replace("WORKDIR /w", "WORKDIR /v"), &[8, 9, 10, 12]),
        ("a destination", recipe().replace("/dir/\n", "/other/\n"), from_copy),
    ];
    for (what, changed, steps) in cases {
        let outcome = builds.good(&changed).await;
        assert_eq!(executed(&outcome), steps, "{what}: {}", outcome.text());
        let again = builds.good(&changed).await;
        assert_eq!((executed(&again), again.digest()), (vec![], outcome.digest()), "{what} once more");
    }
    let unchanged = builds.good(&recipe()).await;
    assert_eq!((executed(&unchanged), unchanged.digest()), (vec![], first.digest()));

    // The same name in the registry is another image now.
    builds.host.push("base", "1", &shell().env(&["PATH=/bin:/usr/bin", "NEW=1"]).build()).await;
    let outcome = builds.good(&recipe()).await;
    assert_eq!(executed(&outcome), STEPS, "{}", outcome.text());
}
