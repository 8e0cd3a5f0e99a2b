//! `RUN --mount`: each type, and what of it stays.

use cakework_core::build::BuildErrorCode;
use cakework_testkit::images::Entry;
use cakework_wire::build::Secrets;

use crate::builder::{Builds, Recipe, assert_problem};

#[tokio::test]
async fn a_cache_stays_from_build_to_build_and_within_its_scope() {
    let builds = Builds::started().await;
    let recipe = |round: &str, scope: &str| {
        let dockerfile = format!(
            "FROM $BASE
             RUN --mount=type=cache,target=/var/cache/x,uid=1000,mode=0700 ls /var/cache/x; \
                 stat -c '%u %a' /var/cache/x; touch /var/cache/x/{round}
             RUN --mount=type=cache,id=locked,target=/l,sharing=locked --mount=type=cache,id=p,target=/p,sharing=private \
                 touch /l/{round} /p/{round}; ls /l /p"
        );
        Recipe::new(&dockerfile).with(|put| put.scope = scope.into())
    };
    let first = builds.good(&recipe("one", "A")).await;
    assert!(first.says("1000 700") && !first.says("two"), "{}", first.text());
    let second = builds.good(&recipe("two", "A")).await;
    assert!(second.says("one") && second.says("1000 700"), "{}", second.text());
    let other = builds.good(&recipe("three", "B")).await;
    assert!(!other.says("one") && !other.says("two"), "{}", other.text());
    let disks = std::fs::read_dir(builds.host.dir.join("buildcache")).expect("a directory").count();
    assert_eq!(disks, 3, "a disk for each scope, nothing mounted, and the boot");
}

#[tokio::test]
async fn a_cache_is_capped_and_begins_with_what_it_is_given() {
    let builds = Builds::started().await;
    let recipe = Recipe::new(
        "FROM $BASE AS seed
         RUN mkdir /seed && echo seeded > /seed/file && chown 1000 /seed/file
         FROM $BASE
         RUN --mount=type=cache,target=/c,from=seed,source=/seed cat /c/file; stat -c %u /c/file
         RUN --mount=type=cache,target=/c,id=big head -c 200000000 /dev/zero > /c/big; test $(stat -c %s /c/big) -lt 100000000",
    );
    let outcome = builds.good(&recipe).await;
    assert!(outcome.says("seeded") && outcome.says("1000"), "{}", outcome.text());
}

#[tokio::test]
async fn a_secret_is_seen_by_its_command_and_stays_nowhere() {
    let builds = Builds::started().await;
    let value = "geheim-7f3a9c";
    let recipe = Recipe::new(
        "FROM $BASE
         RUN --mount=type=secret,id=key test \"$(md5sum < /run/secrets/key)\" = \"$(printf geheim-7f3a9c | md5sum)\"
         RUN --mount=type=secret,id=key,env=KEY --mount=type=secret,id=none test -n \"$KEY\" && test ! -e /run/secrets/none
         RUN --mount=type=secret,id=key,target=/k,mode=0440,uid=7,gid=8 test \"$(stat -c '%u %g %a' /k)\" = '7 8 440'
         RUN --mount=type=secret,id=key ! echo x > /run/secrets/key
         RUN test ! -e /run/secrets && test ! -e /k && test -z \"$KEY\"
         RUN --mount=type=secret,id=key,env=KEY --mount=type=secret,id=key echo asleep; sleep 2",
    )
    .with(|put| put.secrets = Secrets::new([("key".into(), value.into())]));
    let build = builds.begin(&recipe.replace("printf geheim-7f3a9c", "printf 'geheim-%s' 7f3a9c")).await;
    builds.says(&build, "asleep").await;
    // Mounts are other file systems: of them only the build's own disk is one on a disk.
    let disks = [builds.host.dir.clone(), builds.file(&build, "disk"), builds.file(&build, "rootfs")];
    let holds = |dirs: &[std::path::PathBuf]| {
        let mut find = std::process::Command::new("find");
        find.args(dirs).args(["-xdev", "-type", "f", "-exec", "grep", "-l", value, "{}", "+"]);
        String::from_utf8_lossy(&find.output().expect("find runs").stdout).into_owned()
    };
    assert_eq!(holds(&disks), "", "the secret lies on a disk while its command runs");
    assert_ne!(holds(&[builds.host.dir.join("build")]), "", "the same look finds it in memory");
    let outcome = builds.outcome(build).await;
    outcome.digest();
    let everything = std::process::Command::new("grep").args(["-rl", value]).arg(&builds.host.dir).output();
    assert_eq!(String::from_utf8_lossy(&everything.expect("grep runs").stdout), "", "the secret is still there");
    assert!(!builds.host.said().contains(value) && !outcome.text().contains(value));

    let missing = Recipe::new("FROM $BASE\nRUN --mount=type=secret,id=absent,required=true true\n");
    assert_problem(&builds.bad(&missing).await, BuildErrorCode::SecretMissing, 2, "absent");
}

#[tokio::test]
async fn a_tmpfs_has_its_size_and_a_bind_is_read_only_or_thrown_away() {
    let builds = Builds::started().await;
    let recipe = Recipe::new(
        "FROM $BASE AS made
         RUN mkdir -p /dir/deep && echo stage > /dir/file
         FROM $BASE
         RUN --mount=type=tmpfs,target=/t,size=1m head -c 5000000 /dev/zero > /t/big; test $(stat -c %s /t/big) -le 1048576
         RUN --mount=type=bind,target=/b cat /b/file && ! touch /b/new && test ! -e /b/ignored.log
         RUN --mount=type=bind,source=file,target=/etc/one cat /etc/one && ! echo x > /etc/one
         RUN --mount=type=bind,target=/b,rw echo changed > /b/file && cat /b/file && rm -r /b/dir
         RUN --mount=type=bind,target=/b --mount=type=cache,target=/b/node_modules touch /b/node_modules/x && cat /b/dir/kept
         RUN --mount=type=bind,from=made,source=/dir,target=/m,rw cat /m/file && echo x > /m/deep/x
         RUN --mount=type=bind,from=made,source=/dir,target=/m test ! -e /m/deep/x && test ! -e /b && test ! -e /etc/one",
    )
    .file("file", "context")
    .entry(Entry::dir("dir"))
    .file("dir/kept", "kept")
    .file("ignored.log", "")
    .with(|put| put.dockerignore = Some("*.log\n".into()));
    let outcome = builds.good(&recipe).await;
    for line in ["context", "changed", "kept", "stage"] {
        assert!(outcome.says(line), "{line}: {}", outcome.text());
    }
}
