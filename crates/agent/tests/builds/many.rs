//! Several builds at once, of several accounts and of one: nobody sees or disturbs another.

use cakework_testkit::kernel::Census;
use cakework_wire::build::Secrets;
use futures_util::future::join_all;

use crate::builder::{Builds, Outcome, Recipe};
use crate::host::spec;

/// As many as there are accounts.
const ACCOUNTS: [&str; 4] = ["A", "B", "C", "D"];

async fn four_at_once() -> Builds {
    Builds::with(|config| config["builds"]["parallel"] = serde_json::json!(ACCOUNTS.len())).await
}

async fn all(builds: &Builds, recipes: Vec<Recipe>) -> Vec<Outcome> {
    let begun = join_all(recipes.iter().map(|recipe| builds.begin(recipe))).await;
    let outcomes = join_all(begun.into_iter().map(|build| builds.outcome(build))).await;
    for outcome in &outcomes {
        assert!(!outcome.digest().is_empty());
    }
    outcomes
}

#[tokio::test]
async fn accounts_that_build_the_same_at_once_share_nothing_but_the_base() {
    let builds = four_at_once().await;
    builds.good(&Recipe::new("FROM $BASE\nRUN echo x > /x\n").with(|put| put.scope = "other".into())).await;
    let before = Census::take(&builds.host.scope()).expect("a census");
    // One Dockerfile and one file for all. Some name the caches as a path to another's would look.
    let recipe = Recipe::new(
        "FROM $BASE
         COPY input /input
         RUN head -c 16 /dev/urandom | md5sum | cut -c1-32 > /made
         RUN --mount=type=cache,target=/c --mount=type=cache,id=../A/c,target=/d --mount=type=cache,id=/,target=/e \\
             --mount=type=secret,id=who cat /c/* /d/* /e/* 2> /dev/null; \\
             for dir in /c /d /e; do cat /run/secrets/who > $dir/$(cat /made); done; \\
             cp /run/secrets/who /who; echo I am $(cat /who); sleep 1; cat /c/* /d/* /e/*
         CMD [\"cat /who /made\"]",
    )
    .file("input", "the same for all\n");
    let of = |scope: &str, round: u32| {
        let secret = format!("{scope} in round {round}\n");
        recipe.clone().with(|put| {
            put.scope = scope.into();
            put.secrets = Secrets::new([("who".into(), secret)]);
        })
    };
    let outcomes = all(&builds, ACCOUNTS.map(|scope| of(scope, 1)).to_vec()).await;
    for (scope, outcome) in ACCOUNTS.iter().zip(&outcomes) {
        assert_eq!(outcome.steps(), ((1..=5).collect(), vec![]), "{scope}: {}", outcome.text());
        assert!(outcome.says(&format!("I am {scope} in round 1")), "{scope}: {}", outcome.text());
        for other in ACCOUNTS.iter().filter(|other| *other != scope) {
            assert!(!outcome.text().contains(&format!("{other} in round")), "{scope} sees {other}: {}", outcome.text());
        }
    }
    let mut digests: Vec<_> = outcomes.iter().map(|outcome| outcome.digest().to_owned()).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), ACCOUNTS.len(), "each made its own");
    builds.host.assert_nothing_since(&before);

    // Again, each finds its own steps, and in its caches what it left there.
    let again = all(&builds, ACCOUNTS.map(|scope| of(scope, 2)).to_vec()).await;
    for (first, again) in outcomes.iter().zip(&again) {
        assert_eq!((again.steps().1, again.digest()), ((2..=4).collect(), first.digest()), "{}", again.text());
    }
    let changed = |scope| of(scope, 3).replace("sleep 1;", "sleep 0;");
    for (scope, outcome) in ACCOUNTS.iter().zip(all(&builds, ACCOUNTS.map(changed).to_vec()).await) {
        assert!(outcome.says(&format!("{scope} in round 1")), "{scope}: {}", outcome.text());
        for other in ACCOUNTS.iter().filter(|other| *other != scope) {
            assert!(!outcome.text().contains(&format!("{other} in round")), "{scope} sees {other}: {}", outcome.text());
        }
    }

    let mut wanted = spec(outcomes[1].digest(), "");
    wanted.command = None;
    let vm = builds.host.admit(wanted, None).await;
    builds.host.ended(&vm).await;
    assert_eq!(builds.host.lines(&vm).await[0], "B in round 1");
}

#[tokio::test]
async fn builds_of_one_account_wait_for_a_locked_cache_and_share_another() {
    let builds = four_at_once().await;
    let recipe = |round: usize| {
        let dockerfile = format!(
            "FROM $BASE
             RUN --mount=type=cache,target=/l,id=locked,sharing=locked --mount=type=cache,target=/s,id=shared \\
                 n=$(cat /l/count 2> /dev/null || echo 0); sleep 0.3; echo $((n + 1)) > /l/count; touch /s/{round}
             RUN --mount=type=cache,target=/p,id=private,sharing=private \\
                 test ! -e /p/in-use && touch /p/in-use && sleep 0.3 && rm /p/in-use"
        );
        Recipe::new(&dockerfile).with(|put| put.no_cache = true)
    };
    all(&builds, (0..ACCOUNTS.len()).map(recipe).collect()).await;
    let look = Recipe::new(
        "FROM $BASE
         RUN --mount=type=cache,target=/l,id=locked --mount=type=cache,target=/s,id=shared cat /l/count; echo $(ls /s)",
    );
    let outcome = builds.good(&look).await;
    assert!(outcome.says("4") && outcome.says("0 1 2 3"), "{}", outcome.text());
}
