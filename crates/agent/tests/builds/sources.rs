//! Where a build's bytes come from: private registries, the account's own images, repositories, URLs.

use cakework_core::build::BuildErrorCode;
use cakework_testkit::git::{Access, File};
use cakework_testkit::images::{Entry, digest, tar};
use cakework_testkit::remote::USER;
use cakework_testkit::{Auth, GitServer, Registry};
use cakework_wire::host::Credential;
use serde_json::json;

use crate::builder::{Builds, Recipe, assert_problem, gzipped};
use crate::host::shell;
use crate::server::Server;

#[tokio::test]
async fn a_private_base_needs_the_right_credential_each_time() {
    let builds = Builds::started().await;
    let registry = Registry::start(Auth::Basic).await.expect("a registry");
    registry.push("team/private", "v1", &shell().build()).await.expect("the registry takes it");
    let dockerfile = format!("FROM {}\nRUN echo built\n", registry.reference("team/private", "v1"));
    let with = |password: &str, host: &str| {
        let credential = Credential { username: USER.into(), password: password.into() };
        Recipe::new(&dockerfile).with(|put| _ = put.registries.insert(host.into(), credential))
    };
    let (right, host) = (registry.password(), registry.host());
    // What is in the store already is nobody's who may not have it: so the refusals come before and after.
    for _ in 0..2 {
        for refused in [Recipe::new(&dockerfile), with("guessed-9d21", host), with(right, "127.0.0.1:1")] {
            let problem = builds.bad(&refused).await;
            assert_problem(&problem, BuildErrorCode::RegistryUnauthorized, 1, "team/private");
            assert!(!problem.message.contains("guessed-9d21"), "{problem:?}");
        }
        let outcome = builds.good(&with(right, host)).await;
        assert!(!outcome.text().contains(right));
    }
    for secret in [right, "guessed-9d21"] {
        let found = std::process::Command::new("grep").args(["-rl", secret]).arg(&builds.host.dir).output();
        assert_eq!(String::from_utf8_lossy(&found.expect("grep runs").stdout), "", "a password is on the disk");
        assert!(!builds.host.said().contains(secret));
    }
}

#[tokio::test]
async fn an_own_image_is_a_base_and_a_source() {
    const ID: &str = "01GTZHKS9CZHQ1NKZCA3G0H4DX";
    let builds = Builds::started().await;
    let first = Recipe::new(
        "FROM $BASE
         ENV FROM_FIRST=yes
         WORKDIR /first
         RUN echo made > made && chown 1000:1000 made
         USER app",
    );
    let first = builds.good(&first).await;
    let own = |dockerfile: &str| {
        Recipe::new(dockerfile).with(|put| _ = put.own_images.insert(ID.into(), first.digest().into()))
    };
    let second = builds
        .good(&own(&format!(
            "FROM $BASE
             COPY --from=cakework/{ID} /first/made /copied
             RUN test \"$(stat -c %u:%g /copied)\" = 1000:1000 && echo copied
             FROM cakework/{ID}
             COPY --from=0 /copied /last"
        )))
        .await;
    assert!(second.says("copied"), "{}", second.text());
    let config = builds.config(second.digest());
    assert_eq!((&config["config"]["User"], &config["config"]["WorkingDir"]), (&json!("app"), &json!("/first")));
    let third = own(&format!("FROM cakework/{ID}\nRUN cat made && echo \"$FROM_FIRST $(pwd) $(id -u)\"\n"));
    let third = builds.good(&third).await;
    assert!(third.says("made") && third.says("yes /first 1000"), "{}", third.text());

    // A name that was not resolved with the account is none.
    let other = Recipe::new(&format!("FROM $BASE\nCOPY --from=cakework/{ID} /first/made /copied\n"));
    assert_eq!(builds.bad(&other).await.code, BuildErrorCode::BaseImage);
}

#[tokio::test]
async fn a_repository_is_a_context() {
    let forge = GitServer::start().await.expect("a forge");
    let repository = forge.create("acme/app", Access::Private).expect("a repository");
    let commit = |branch: &str, text: &str| {
        let files = [
            File::plain("Dockerfile", "FROM scratch\nRUN this is not used\n"),
            File::plain(".dockerignore", "*.log\n"),
            File::plain("main.txt", text),
            File::plain("noise.log", "noise"),
            File::program("services/api/run.sh", "#!/bin/sh\necho service\n"),
            File::link("services/api/out", "../../../../../../../../etc/hostname"),
        ];
        repository.commit(branch, &files).expect("a commit")
    };
    let first = commit("main", "first\n");
    repository.tag("v1", &first).expect("a tag");
    commit("main", "second\n");
    let builds = Builds::with(|config| {
        config["git"] = json!({"baseUrl": forge.base_url(), "caFile": forge.ca_file()});
    })
    .await;
    let token = Some(forge.token());
    let all = Recipe::new("FROM $BASE\nCOPY . /srv\nRUN cat /srv/main.txt; ls -A /srv; test ! -e /srv/.git\n");
    let outcome = builds.good(&all.clone().git("acme/app", None, None, token)).await;
    assert!(outcome.says("second") && outcome.says("services") && !outcome.says("noise.log"), "{}", outcome.text());
    let again = builds.good(&all.clone().git("acme/app", Some("main"), None, token)).await;
    assert_eq!((again.steps().1, again.digest()), (vec![2, 3], outcome.digest()), "{}", again.text());
    for reference in ["v1", &first] {
        let earlier = all.clone().git("acme/app", Some(reference), None, token).with(|put| put.no_cache = true);
        let outcome = builds.good(&earlier).await;
        assert!(outcome.says("first"), "{reference}: {}", outcome.text());
    }
    // The caller's own file wins; a folder is a context of its own, and nothing in it leads out.
    let own = all.clone().with(|put| put.dockerignore = Some("main.*\n".into())).replace("cat /srv/main.txt; ", "");
    let outcome = builds.good(&own.git("acme/app", None, None, token)).await;
    assert!(outcome.says("noise.log") && !outcome.says("main.txt"), "{}", outcome.text());
    let folder = Recipe::new("FROM $BASE\nCOPY run.sh /\nRUN /run.sh\n");
    let outcome = builds.good(&folder.git("acme/app", None, Some("services/api"), token)).await;
    assert!(outcome.says("service"), "{}", outcome.text());
    let out = Recipe::new("FROM $BASE\nCOPY out /x\n").git("acme/app", None, Some("services/api"), token);
    assert_problem(&builds.bad(&out).await, BuildErrorCode::CopyFailed, 2, "out");

    let cases = [
        (all.clone().git("acme/app", None, None, Some("ghp_wrong")), BuildErrorCode::SourceUnauthorized),
        (all.clone().git("acme/none", None, None, token), BuildErrorCode::SourceNotFound),
        (all.clone().git("acme/app", Some("no-such-branch"), None, token), BuildErrorCode::BranchNotFound),
        (all.git("acme/app", None, Some("no/such/folder"), token), BuildErrorCode::SourceInvalid),
    ];
    for (recipe, code) in cases {
        let problem = builds.bad(&recipe).await;
        assert_eq!((problem.code, problem.line), (code, None), "{problem:?}");
        assert!(!problem.message.contains("ghp_"), "{problem:?}");
    }
    let found = std::process::Command::new("grep").args(["-rl", forge.token()]).arg(&builds.host.dir).output();
    assert_eq!(String::from_utf8_lossy(&found.expect("grep runs").stdout), "", "the token is on the disk");
    assert!(!builds.host.said().contains(forge.token()));
}

#[tokio::test]
async fn a_url_is_fetched_by_policy_and_checksum() {
    let builds = Builds::started().await;
    let content = std::sync::Arc::new(std::sync::Mutex::new("content one\n"));
    let answered = std::sync::Arc::clone(&content);
    let server = Server::start(move |asked, own| {
        let to = |url: &str| (302, vec![("location".into(), url.to_owned())], Vec::new());
        match asked.path.split('?').next().unwrap_or_default() {
            "/private" => to("http://10.11.12.13/secret"),
            "/metadata" => to("http://169.254.169.254/latest"),
            "/host" => to("http://127.0.0.2:1/"),
            "/hop" => to(&format!("http://{own}/file.txt")),
            "/none" => (404, Vec::new(), Vec::new()),
            _ => (200, Vec::new(), answered.lock().expect("not poisoned").as_bytes().to_vec()),
        }
    })
    .await;
    let url = |path: &str| format!("http://{}/{path}", server.host);
    let times = |path: &str| server.asked().iter().filter(|asked| asked.path.starts_with(path)).count();
    let recipe = |line: &str| Recipe::new(&format!("FROM $BASE\n{line}\nRUN cat /x/*; stat -c 'mode %a' /x/*\n"));

    // Without a checksum it is fetched each time, and what has not changed is found.
    let plain = recipe(&format!("ADD {}?key=geheim /x/", url("file.txt")));
    let first = builds.good(&plain).await;
    assert!(first.says("content one") && first.says("mode 600"), "{}", first.text());
    assert!(!first.text().lines().any(|line| line.contains("Fetching") && line.contains("geheim")), "{}", first.text());
    assert_eq!(builds.good(&plain).await.steps().1, [2, 3]);
    assert_eq!(times("/file.txt"), 2);
    *content.lock().expect("not poisoned") = "content two\n";
    let changed = builds.good(&plain).await;
    assert!(changed.steps().1.is_empty() && changed.says("content two"), "{}", changed.text());

    // By a checksum that is known nothing is fetched.
    let sum = digest(b"content two\n");
    let checked = recipe(&format!("ADD --checksum={sum} --chmod=640 --chown=app {} /x/", url("checked.txt")));
    let outcome = builds.good(&checked).await;
    assert!(outcome.says("mode 640"), "{}", outcome.text());
    assert_eq!(builds.good(&checked).await.steps().1, [2, 3]);
    assert_eq!(times("/checked.txt"), 1);
    let wrong = recipe(&format!("ADD --checksum={} {} /x/", digest(b"other"), url("checked.txt")));
    assert_problem(&builds.bad(&wrong).await, BuildErrorCode::DownloadFailed, 2, &sum);

    assert!(builds.good(&recipe(&format!("ADD {} /x/", url("hop")))).await.says("content two"));
    for path in ["private", "metadata", "host"] {
        let problem = builds.bad(&recipe(&format!("ADD {} /x/", url(path)))).await;
        assert_problem(&problem, BuildErrorCode::EgressDenied, 2, "builds may reach");
    }
    assert_eq!(builds.bad(&recipe(&format!("ADD {} /x/", url("none")))).await.code, BuildErrorCode::DownloadFailed);
}

#[tokio::test]
async fn copies_are_picked_excluded_owned_and_moded() {
    let builds = Builds::started().await;
    let entries = [Entry::dir("d"), Entry::program("d/tool", "#!/bin/sh\necho tool\n")];
    let recipe = Recipe::new(
        "FROM $BASE
         COPY --exclude=*.md --exclude=deep/no* . /all/
         RUN cd /all && echo all $(find . -type f | sort)
         COPY src/[ab].txt src/?.md /picked/
         RUN echo picked $(ls /picked)
         COPY --chown=app:staff --chmod=0604 src /owned
         RUN stat -c '%U:%G %a %n' /owned/a.txt
         COPY --chown=7:8 <<one <<two /in/
         text one
         one
         text two
         two
         RUN stat -c '%u:%g %a %n' /in/one && cat /in/one /in/two
         ADD --chown=1000:50 plain.tar packed.tar.gz src/a.txt /added/
         RUN cd /added && echo added $(find . -type f | sort) $(stat -c %u:%g d/tool a.txt) && d/tool
         ADD packed.tar.gz /as-is.tar.gz
         RUN test -d /as-is.tar.gz && echo a directory
         COPY packed.tar.gz /as-is
         RUN test -f /as-is && echo a file
         COPY src/a.txt src/b.txt /missing/dir/
         WORKDIR /missing
         COPY src/c.md dir/renamed
         RUN echo found $(find /missing -type f | sort)",
    )
    .file("src/a.txt", "a")
    .file("src/b.txt", "b")
    .file("src/c.md", "c")
    .file("src/ab.txt", "ab")
    .file("deep/none", "")
    .file("deep/yes", "")
    .file("README.md", "")
    .entry(Entry::file("plain.tar", tar(&entries)))
    .entry(Entry::file("packed.tar.gz", gzipped(&entries)));
    let outcome = builds.good(&recipe).await;
    for line in [
        "all ./deep/yes ./packed.tar.gz ./plain.tar ./src/a.txt ./src/ab.txt ./src/b.txt ./src/c.md",
        "picked a.txt b.txt c.md",
        "app:staff 604 /owned/a.txt",
        "7:8 644 /in/one",
        "text two",
        "added ./a.txt ./d/tool 1000:50 1000:50",
        "tool",
        "a directory",
        "a file",
        "found /missing/dir/a.txt /missing/dir/b.txt /missing/dir/renamed",
    ] {
        assert!(outcome.says(line), "{line}: {}", outcome.text());
    }
}
