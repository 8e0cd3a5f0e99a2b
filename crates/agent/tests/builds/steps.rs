//! Each instruction, with a real image out of it.

use cakework_core::build::BuildErrorCode;
use cakework_wire::build::BuildObservation;

use crate::builder::{Builds, Recipe, assert_problem};
use crate::host::spec;

#[tokio::test]
async fn an_image_is_built_and_runs() {
    let builds = Builds::started().await;
    let before = cakework_testkit::kernel::Census::take(&builds.host.scope()).expect("a census");
    let recipe = Recipe::new(
        "FROM $BASE AS tools
         ARG GREETING=hello
         RUN mkdir /out && echo \"$GREETING from the builder\" > /out/greeting && chown 1000:1000 /out/greeting
         FROM $BASE
         ENV WHERE=/srv/app
         WORKDIR $WHERE
         COPY --from=tools /out/greeting ./
         COPY --chown=app *.txt ./texts/
         COPY <<EOF inline
         one $WHERE
         EOF
         RUN cat greeting texts/a.txt && test \"$(stat -c %u:%g texts/a.txt greeting)\" = \"$(printf '1000:1000\\n1000:1000')\"
         USER app
         RUN id -u > /tmp/who && pwd && test \"$HOME\" = /home/app
         ENTRYPOINT [\"/bin/sh\", \"-c\", \"cat greeting texts/b.txt inline /tmp/who; id -u\"]
         CMD []",
    )
    .file("a.txt", "file a\n")
    .file("b.txt", "file b\n")
    .file("c.md", "not this\n")
    .arg("GREETING", "hi");
    let outcome = builds.good(&recipe).await;
    for line in ["hi from the builder", "file a", "/srv/app"] {
        assert!(outcome.says(line), "{line}: {}", outcome.text());
    }
    let (executed, cached) = outcome.steps();
    assert_eq!((executed, cached), ((1..=14).collect(), vec![]), "{}", outcome.text());
    builds.host.assert_nothing_since(&before);

    let mut wanted = spec(outcome.digest(), "");
    wanted.command = None;
    let vm = builds.host.admit(wanted, None).await;
    builds.host.ended(&vm).await;
    assert_eq!(builds.host.lines(&vm).await, ["hi from the builder", "file b", "one /srv/app", "1000", "1000"]);
}

#[tokio::test]
async fn a_command_leaves_its_changes_and_nothing_else() {
    let builds = Builds::started().await;
    let recipe = Recipe::new(
        "FROM $BASE
         RUN true
         RUN cat /etc/hosts /etc/resolv.conf /proc/version && ls /tmp /dev /sys > /dev/null
         RUN --mount=type=cache,target=/var/cache/x --mount=type=tmpfs,target=/scratch touch /var/cache/x/y /scratch/z
         RUN echo changed > /etc/hosts && echo kept > /tmp/kept
         RUN cat /tmp/kept && test ! -e /var/cache && test ! -e /scratch && ! grep -q changed /etc/hosts",
    );
    let outcome = builds.good(&recipe).await;
    let config = builds.config(outcome.digest());
    let history: Vec<(&str, bool)> = config["history"]
        .as_array()
        .expect("a history")
        .iter()
        .map(|entry| (entry["created_by"].as_str().unwrap_or_default(), entry["empty_layer"] == true))
        .filter(|(by, _)| by.starts_with("RUN"))
        .collect();
    let is_empty: Vec<bool> = history.iter().map(|(_, is_empty)| *is_empty).collect();
    assert_eq!(is_empty, [true, true, true, false, true], "{history:?}");
}

#[tokio::test]
async fn heredocs_and_shells_and_lists_run() {
    let builds = Builds::started().await;
    let recipe = Recipe::new(
        "FROM $BASE
RUN <<EOF
echo first
echo second $((1 + 1))
EOF
RUN <<SCRIPT
#!/bin/busybox sh
echo script $0
SCRIPT
RUN [\"/bin/busybox\", \"echo\", \"no $HOME expansion\"]
SHELL [\"/bin/busybox\", \"sh\", \"-exc\"]
RUN echo traced
COPY --chmod=751 <<EOF /bin/tool
#!/bin/sh
echo tool
EOF
RUN tool
",
    );
    let outcome = builds.good(&recipe).await;
    for line in ["first", "second 2", "no $HOME expansion", "+ echo traced", "tool"] {
        assert!(outcome.says(line), "{line}: {}", outcome.text());
    }
    assert!(outcome.lines.iter().any(|line| line.message.starts_with("script ")), "{}", outcome.text());
}

#[tokio::test]
async fn what_fails_is_named_with_its_line() {
    let builds = Builds::started().await;
    let cases = [
        ("FROM $BASE\nRUN echo on the way\nRUN exit 7\n", BuildErrorCode::CommandFailed, 3, "exit code 7"),
        ("FROM $BASE\nRUN [\"/no/such/program\"]\n", BuildErrorCode::CommandFailed, 2, "was not found"),
        ("FROM $BASE\nUSER nobody-here\nRUN true\n", BuildErrorCode::CommandFailed, 3, "nobody-here"),
        ("FROM $BASE\nCOPY missing /x\n", BuildErrorCode::CopyFailed, 2, "missing"),
        ("FROM $BASE\nCOPY --chown=stranger a /x\n", BuildErrorCode::CopyFailed, 2, "stranger"),
        ("FROM $BASE\nCOPY a /etc/passwd/x\n", BuildErrorCode::CopyFailed, 2, "not a directory"),
        ("FROM $BASE\n\nRUN --mount=type=secret,id=k,required=true true\n", BuildErrorCode::SecretMissing, 3, "`k`"),
        ("FROM $BASE\nADD http://127.0.0.1:9/x /x\n", BuildErrorCode::DownloadFailed, 2, ""),
        ("FROM $BASE\nADD http://10.1.2.3/x /x\n", BuildErrorCode::EgressDenied, 2, ""),
        ("FROM $BASE-not-there\nRUN true\n", BuildErrorCode::BaseImage, 1, ""),
        ("FROM cakework/01GTZHKS9CZHQ1NKZCA3G0H4DX\n", BuildErrorCode::BaseImage, 1, "01GTZHKS9CZHQ1NKZCA3G0H4DX"),
        ("FROM $BASE\nNONSENSE\n", BuildErrorCode::DockerfileInvalid, 2, ""),
        ("FROM $BASE\nCOPY --parents a /x\n", BuildErrorCode::DockerfileUnsupported, 2, ""),
    ];
    for (dockerfile, code, line, says) in cases {
        let problem = builds.bad(&Recipe::new(dockerfile).file("a", "")).await;
        assert_problem(&problem, code, line, says);
    }
    let outcome = builds.build(&Recipe::new(cases[0].0)).await;
    assert!(matches!(outcome.observation, BuildObservation::Failed { .. }));
    let last = outcome.lines.last().expect("a line");
    assert_eq!(
        (last.level.as_str(), last.message.as_str()),
        ("error", "ERROR line 3: The command ended with exit code 7.")
    );
}

#[tokio::test]
async fn archives_are_unpacked_by_add_and_copied_by_copy() {
    let builds = Builds::started().await;
    let inner = cakework_testkit::images::tar(&[
        cakework_testkit::images::Entry::dir("dir"),
        cakework_testkit::images::Entry::program("dir/program", "x"),
        cakework_testkit::images::Entry::symlink("dir/link", "/etc/passwd"),
    ]);
    let recipe = Recipe::new(
        "FROM $BASE
         ADD a.tar plain.txt /added/
         COPY a.tar /copied/
         RUN test -x /added/dir/program && test -f /added/plain.txt && test ! -e /added/a.tar && \
             test \"$(readlink /added/dir/link)\" = /etc/passwd && test -f /copied/a.tar",
    )
    .entry(cakework_testkit::images::Entry::file("a.tar", inner))
    .file("plain.txt", "plain");
    builds.good(&recipe).await;
}
