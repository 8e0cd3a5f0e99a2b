use std::collections::BTreeMap;

use super::*;
use crate::fault::FaultCode;
use crate::key::Key;
use crate::plan::{Inputs, plan};
use crate::step::{Copy, Run, Script, Source};

/// Steps and configuration of the last stage, where all images set what [`base`] says.
fn walked(text: &str, args: &[(&str, &str)]) -> Result<(Vec<Step>, Config), Fault> {
    let build_args: BTreeMap<String, String> = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let plan = plan(text, &Inputs { build_args, target: None, architecture: "amd64".to_owned() })?;
    let mut ends: Vec<(Vec<Step>, Config)> = Vec::new();
    for (number, stage) in plan.stages.iter().enumerate() {
        let config = match &stage.base {
            Base::Tree(Tree::Stage(earlier)) => ends[*earlier].1.clone(),
            _ => base(),
        };
        let mut walker = Walker::new(&plan, number, config)?;
        let mut steps = Vec::new();
        while let Some(step) = walker.next() {
            steps.push(step?);
        }
        assert_eq!(steps.len() as u32, stage.steps);
        ends.push((steps, walker.config().clone()));
    }
    Ok(ends.pop().unwrap())
}

fn base() -> Config {
    Config {
        env: words(&["PATH=/bin", "BASE=of base"]),
        cmd: Some(words(&["sh"])),
        entrypoint: Some(words(&["/init"])),
        ..Config::default()
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn configured(text: &str) -> Config {
    walked(&format!("FROM a\n{text}"), &[]).unwrap().1
}

fn last(text: &str) -> Action {
    walked(&format!("FROM a\n{text}"), &[]).unwrap().0.pop().unwrap().action
}

fn run(text: &str) -> Run {
    if let Action::Run(run) = last(text) { run } else { panic!("{text}") }
}

fn copy(text: &str) -> Copy {
    if let Action::Copy(copy) = last(text) { copy } else { panic!("{text}") }
}

fn refused(text: &str) -> Fault {
    walked(text, &[]).unwrap_err()
}

#[test]
fn env_is_expanded_against_what_was_before_its_line() {
    let config = configured("ENV a=1\nENV a=2 b=$a \"c d\"='$a' e=${BASE}\nENV f x  $b \"q\"\nENV g=h\\ i");
    assert_eq!(
        config.env,
        words(&["PATH=/bin", "BASE=of base", "a=2", "b=1", "c d=$a", "e=of base", "f=x  1 q", "g=h i"])
    );
}

#[test]
fn an_image_without_a_path_gets_one() {
    let plan = plan("FROM scratch", &Inputs::default()).unwrap();
    let walker = Walker::new(&plan, 0, Config::default()).unwrap();
    assert_eq!(walker.config().env("PATH"), Some(PATH));
}

#[test]
fn args_are_in_force_from_their_line_on() {
    let text = "ARG G=global\nFROM a AS one\nARG U\nARG G\nARG D=def E=$D-$G\nARG TARGETPLATFORM\nARG TARGETSTAGE\nENV D=env\n\
                FROM one\nARG V=late\nRUN x\nARG W=later";
    let (steps, _) = walked(text, &[("E", "given"), ("X", "undeclared"), ("HTTP_PROXY", "http://p")]).unwrap();
    let Action::Run(run) = &steps[1].action else { panic!() };
    assert_eq!(
        run.env,
        words(&[
            "PATH=/bin",
            "BASE=of base",
            "D=env",
            "G=global",
            "E=given",
            "TARGETPLATFORM=linux/amd64",
            "TARGETSTAGE=default",
            "V=late",
            "HTTP_PROXY=http://p"
        ])
    );
}

#[test]
fn args_do_not_reach_stages_that_do_not_stand_on_theirs() {
    let (steps, _) = walked("ARG G=1\nFROM a AS one\nARG A=1\nFROM b\nCOPY --from=one $A$G /x", &[]).unwrap();
    let Action::Copy(copy) = &steps[0].action else { panic!() };
    assert_eq!(copy.sources, [Source::Path(".".to_owned())]);
}

#[test]
fn run_takes_all_forms() {
    let sh = |script: &str| words(&["/bin/sh", "-c", script]);
    for (text, expected) in [
        ("RUN echo $HOME \\\n # c\n  'x'", sh("echo $HOME   'x'")),
        ("RUN [\"a\", \"$b\"]", words(&["a", "$b"])),
        ("RUN [ -f x ]", sh("[ -f x ]")),
        ("RUN [[ -f x ]]", sh("[[ -f x ]]")),
        ("SHELL [\"/bin/bash\", \"-euc\"]\nRUN a", words(&["/bin/bash", "-euc", "a"])),
        ("RUN <<EOF\na $b\n  c\nEOF", sh("a $b\n  c\n")),
        ("RUN <<-'EOF'\n\ta\n\tEOF", sh("a\n")),
        ("RUN cat <<EOF > x && y\na\nEOF", sh("cat <<EOF > x && y\na\nEOF")),
        ("RUN <<EOF bash\na\nEOF", sh("<<EOF bash\na\nEOF")),
        ("RUN <<A cat - <<-B\n1\nA\n\t2\n\tB", sh("<<A cat - <<-B\n1\nA\n\t2\nB")),
        ("RUN -- --x", sh("--x")),
    ] {
        assert_eq!(run(text).args, expected, "{text}");
    }
    let script = run("RUN <<X.py\n#!/usr/bin/env python3\nprint()\nX.py");
    assert_eq!(script.args, ["/dev/pipes/X.py"]);
    let content = "#!/usr/bin/env python3\nprint()\n".to_owned();
    assert_eq!(script.scripts, [Script { path: "/dev/pipes/X.py".to_owned(), content }]);
    let other = run("USER u:g\nWORKDIR w\nRUN --network=none --security=sandbox x");
    assert_eq!((&*other.working_dir, &*other.user, other.no_network), ("/w", "u:g", true));
    assert_eq!(run("RUN x").working_dir, "/");
}

#[test]
fn workdir_is_relative_to_the_one_before() {
    for (text, expected) in [
        ("WORKDIR a", "/a"),
        ("WORKDIR /a\nWORKDIR b/../c", "/a/c"),
        ("WORKDIR /a\nWORKDIR ../..", "/"),
        ("ENV D=/x\\ y\nWORKDIR $D/z", "/x y/z"),
        ("WORKDIR /a/", "/a"),
        ("WORKDIR /a\nWORKDIR $UNSET", "/a"),
    ] {
        let action = last(&format!("USER u\n{text}"));
        assert_eq!(action, Action::Workdir { path: expected.to_owned(), user: "u".to_owned() }, "{text}");
    }
}

#[test]
fn entrypoint_takes_the_bases_cmd_away() {
    let of = |text: &str| {
        let config = configured(text);
        (config.entrypoint, config.cmd)
    };
    let sh = |script: &str| Some(words(&["/bin/sh", "-c", script]));
    assert_eq!(of(""), (Some(words(&["/init"])), Some(words(&["sh"]))));
    assert_eq!(of("ENTRYPOINT x y"), (sh("x y"), None));
    assert_eq!(of("CMD [\"c\"]\nENTRYPOINT [\"e\"]"), (Some(words(&["e"])), Some(words(&["c"]))));
    assert_eq!(of("ENTRYPOINT [\"e\"]\nCMD $c"), (Some(words(&["e"])), sh("$c")));
    assert_eq!(of("ENTRYPOINT []"), (None, None));
    assert_eq!(of("CMD []").1, Some(vec![]));
    let (_, child) = walked("FROM a AS b\nCMD x\nFROM b\nENTRYPOINT [\"e\"]", &[]).unwrap();
    assert_eq!(child.cmd, None);
}

#[test]
fn the_rest_is_recorded() {
    let config = configured(
        "ENV P=90 S=SIGINT V=\"/a b\"\nEXPOSE 80 $P/udp 8000-8002/TCP 1:2\nVOLUME /v $V\nVOLUME [\"/w x\"]\n\
         LABEL a=1 \"b c\"=\"$P x\"\nLABEL d e f\nMAINTAINER Some One <a@b>\nSTOPSIGNAL $S\nSHELL [\"/bin/ash\"]\n\
         USER ${U:-me}\nHEALTHCHECK --interval=1m --timeout=3s --start-period=1s --start-interval=2s --retries=4 CMD curl $x",
    );
    let ports: Vec<&str> = config.exposed_ports.keys().map(String::as_str).collect();
    assert_eq!(ports, ["2/tcp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp", "90/udp"]);
    assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/a b", "/v", "/w x"]);
    let labels: Vec<(&str, &str)> = config.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("a", "1"), ("b c", "90 x"), ("d", "e f"), ("maintainer", "Some One <a@b>")]);
    assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!((config.user.as_str(), config.shell), ("me", Some(words(&["/bin/ash"]))));
    let health = config.healthcheck.unwrap();
    assert_eq!(health.test, ["CMD-SHELL", "curl $x"]);
    let s = 1_000_000_000;
    assert_eq!(
        (health.interval, health.timeout, health.start_period, health.start_interval, health.retries),
        (60 * s, 3 * s, s, 2 * s, 4)
    );
    assert_eq!(configured("HEALTHCHECK none").healthcheck.unwrap().test, ["NONE"]);
    assert_eq!(configured("HEALTHCHECK CMD [\"a\"]").healthcheck.unwrap().test, ["CMD", "a"]);
}

#[test]
fn what_is_wrong_once_it_is_expanded_is_refused() {
    use FaultCode::{Invalid, Unsupported};
    for (text, code) in [
        ("ENV $U=1", Invalid),
        ("ENV \"a=b\"", Invalid),
        ("LABEL $U=1", Invalid),
        ("EXPOSE http", Invalid),
        ("EXPOSE 70000", Invalid),
        ("EXPOSE 9-8", Invalid),
        ("EXPOSE 80/icmp", Invalid),
        ("EXPOSE +80", Invalid),
        ("EXPOSE 0-65535", Invalid),
        ("EXPOSE 1-9000 1-9000", Invalid),
        ("VOLUME $U", Invalid),
        ("STOPSIGNAL SIGNOPE", Invalid),
        ("STOPSIGNAL 65", Invalid),
        ("ENV a=${U:?set U}", Invalid),
        ("USER \"a", Invalid),
        ("COPY a[ /x", Invalid),
        ("COPY http://h/x /x", Invalid),
        ("COPY --chmod=99 a /x", Invalid),
        ("COPY --chmod=17777 a /x", Invalid),
        ("COPY --chmod=u+x a /x", Unsupported),
        ("ADD --checksum=md5:1 http://h/x /x", Unsupported),
        ("ADD --checksum=sha256:00 http://h/x /x", Unsupported),
        ("ADD https://github.com/a/b.git /x", Unsupported),
        ("ADD https://github.com/a/b.git#v1:sub /x", Unsupported),
        ("ADD git@github.com:a/b /x", Unsupported),
        ("ADD git://h/a /x", Unsupported),
        ("RUN --mount=type=bogus,target=/x a", Invalid),
    ] {
        let fault = refused(&format!("FROM a\nARG U\n{text}"));
        assert_eq!((fault.code, fault.line), (code, 3), "{text}: {fault}");
    }
    let digest = format!("sha256:{}", "0".repeat(64));
    assert_eq!(refused(&format!("FROM a\nADD --checksum={digest} b /x")).code, Invalid);
    assert_eq!(copy(&format!("ADD --checksum={digest} http://h/x /x")).checksum, Some(digest));
}

#[test]
fn after_a_fault_there_is_nothing() {
    let plan = plan("FROM a\nEXPOSE x\nRUN b", &Inputs::default()).unwrap();
    let mut walker = Walker::new(&plan, 0, Config::default()).unwrap();
    assert!(walker.next().unwrap().is_err());
    assert!(walker.next().is_none());
}

#[test]
fn a_message_shows_no_control_character() {
    for letter in ['\u{6}', '\u{1b}', '\u{7f}'] {
        let fault = refused(&format!("FROM a\nENV B=${{A{letter}}}"));
        assert_eq!(fault.message, "`\u{fffd}` in `${A…}` is no modifier that is known.");
    }
}

#[test]
fn triggers_of_a_base_are_refused() {
    let plan = plan("# c\nFROM a", &Inputs::default()).unwrap();
    let config = Config { on_build: words(&["RUN x"]), ..Config::default() };
    let fault = Walker::new(&plan, 0, config).unwrap_err();
    assert_eq!((fault.code, fault.line, fault.instruction.as_str()), (FaultCode::Unsupported, 2, "FROM a"));
}

#[test]
fn variables_can_not_grow_without_end() {
    let doubling = format!("FROM a\nENV a=0123456789\n{}", "ENV a=$a$a$a$a\n".repeat(100));
    assert!(refused(&doubling).message.contains("bytes"));
    let many: String = (0..1001).map(|number| format!("ENV v{number}=1\n")).collect::<String>();
    assert!(refused(&format!("FROM a\n{}", many.replacen("\nENV", " ", 999))).message.contains("variables"));
    let labels = format!(
        "FROM a\nENV v={}\n{}",
        "x".repeat(100_000),
        (0..20).map(|n| format!("LABEL l{n}=$v\n")).collect::<String>()
    );
    assert!(refused(&labels).message.contains("labels"));
}

#[test]
fn texts_that_ask_for_much_work_end_soon() {
    let fill = |part: &str| part.repeat(900_000 / part.len());
    for text in [
        format!("FROM a\nENV v={}\nLABEL {}", "x".repeat(60_000), fill("a=${v#y} ")),
        format!("FROM a\nLABEL {}", fill("a=$b ")),
        format!("FROM a\nARG {}", fill("a=$b ")),
        format!("FROM a\nEXPOSE {}", fill("1-9999 ")),
        format!("FROM a\nRUN {}", fill("<<a ")),
        format!("FROM a\nRUN [{}", fill("[")),
        format!("FROM a\nRUN --mount={} x", fill("a=b,")),
        format!("FROM a\nRUN {} x", fill("--mount=target=/a ")),
        format!("FROM a\nCOPY {} /x", fill("a* ")),
        format!("FROM a\nVOLUME {}", fill("/a ")),
        fill("FROM a\n"),
        fill("\\\n"),
        fill("# escape=`\n"),
    ] {
        let begin = std::time::Instant::now();
        let _ = walked(&text, &[]);
        let took = begin.elapsed();
        assert!(took.as_secs() < 10, "{}… took {took:?}", &text[..30]);
    }
}

#[test]
fn docker_reads_the_configuration() {
    let json = r#"{"Env":null,"ExposedPorts":null,"OnBuild":null,"Volumes":null,"Labels":null,"User":"","Cmd":null,"Other":1}"#;
    assert_eq!(serde_json::from_str::<Config>(json).unwrap(), Config::default());
    let mut config = configured("EXPOSE 80\nARG A=1\nUSER u");
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains(r#""ExposedPorts":{"80/tcp":{}}"#) && !text.contains("A=1"), "{text}");
    config.args.clear();
    assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
}

/// The key after each step.
fn keys(text: &str, args: &[(&str, &str)], content: &str) -> Vec<Key> {
    let (steps, _) = walked(text, args).unwrap();
    let mut key = Key::base("sha256:x");
    steps
        .iter()
        .map(|step| {
            key = key.step(step, &[content.to_owned()]);
            key.clone()
        })
        .collect()
}

/// The first step whose key is another.
fn first_changed(one: &[Key], other: &[Key]) -> Option<usize> {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).position(|(one, other)| one != other)
}

#[test]
fn a_change_rebuilds_from_where_it_counts() {
    const TEXT: &str =
        "FROM a\nCOPY r /r\nARG V=1\nENV E=1\nCOPY x /$E\nLABEL l=$V\nRUN a\nARG L=1\nWORKDIR /$L\nRUN b";
    let before = keys(TEXT, &[], "c");
    let args = |args: &[(&str, &str)]| first_changed(&before, &keys(TEXT, args, "c"));
    let text = |from: &str, to: &str| first_changed(&before, &keys(&TEXT.replace(from, to), &[], "c"));
    assert_eq!(before, keys(TEXT, &[], "c"));
    assert_eq!(args(&[("V", "2")]), Some(5));
    assert_eq!(args(&[("L", "2")]), Some(7));
    assert_eq!(args(&[("NOPE", "2")]), None);
    assert_eq!(args(&[("http_proxy", "http://p")]), None);
    assert_eq!(text("ENV E=1", "ENV E=2"), Some(3));
    assert_eq!(text("ENV E=1", "ENV E=1 F=1"), Some(5));
    assert_eq!(text("LABEL l=$V", "LABEL l=other"), None);
    assert_eq!(text("RUN b", "RUN  b"), None);
    assert_eq!(text("RUN b", "RUN --network=none b"), Some(8));
    assert_eq!(text("RUN a", "RUN --mount=type=secret,id=s a"), Some(5));
    assert_eq!(text("COPY r /r", "COPY --chmod=755 r /r"), Some(0));
    assert_eq!(text("COPY r /r", "COPY --chown=1 r /r"), Some(0));
    assert_eq!(text("COPY r /r", "ADD r /r"), Some(0));
    assert_eq!(text("COPY r /r", "COPY --link r /r"), None);
    assert_eq!(first_changed(&before, &keys(TEXT, &[], "d")), Some(0));
    let declared = TEXT.replace("ARG V=1", "ARG V=1 http_proxy");
    let one = keys(&declared, &[("http_proxy", "http://p")], "c");
    assert_eq!(first_changed(&one, &keys(&declared, &[("http_proxy", "http://q")], "c")), Some(5));
}

#[test]
fn a_stage_that_moves_keeps_its_key() {
    let one = keys("FROM a AS x\nFROM b\nCOPY --from=x a /a", &[], "c");
    let other = keys("FROM a AS w\nFROM a AS x\nFROM b\nCOPY --from=w z /z\nCOPY --from=x a /a", &[], "c");
    let (steps, _) = walked("FROM a AS w\nFROM a AS x\nFROM w AS b\nCOPY --from=x a /a", &[]).unwrap();
    assert_eq!(Key::base("sha256:x").step(&steps[0], &["c".to_owned()]), one[0]);
    assert_ne!(one[0], other[1]);
    assert_eq!(one[0].as_str().len(), 64);
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let key = |text: &str| keys(&format!("FROM a\n{text}"), &[], "c");
    assert_ne!(key("RUN [\"a\", \"bc\"]"), key("RUN [\"ab\", \"c\"]"));
    assert_ne!(key("COPY a b /x"), key("COPY [\"a b\", \"/x\"]"));
    assert_ne!(key("COPY <<a /x\nb\na"), key("COPY a /x"));
    let (steps, _) = walked("FROM a\nRUN x", &[]).unwrap();
    let base = Key::base("d");
    assert_ne!(base.step(&steps[0], &[]), base.step(&steps[0], &[String::new()]));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Text that gets past the parser often.
    fn dockerfile() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "(RUN|COPY|ADD|ENV|ARG|LABEL|EXPOSE|USER|WORKDIR|VOLUME|CMD|ENTRYPOINT|SHELL|STOPSIGNAL|HEALTHCHECK|FROM|ONBUILD|MAINTAINER) \
             [ -~]{0,24}",
            "(ENV|ARG|LABEL) [AB]=[$A-C{}:#%/?*+\"'\\\\-]{0,14}",
            "RUN --mount=(type=(cache|bind|tmpfs|secret),)?[a-z0-9=,/\"$A]{0,20} x",
            "(COPY|ADD) (--[a-z]{2,6}(=[$A0-9/:]{0,5})? )?[a$A*./\\[\\]]{0,6} (<<-?E )?[/.$A]{0,5}",
            "(RUN|COPY) <<-?['\"]?E['\"]?( [/a-z<]{0,4})?\n\t?[$A]{0,4}\nE",
            "(EXPOSE|VOLUME|SHELL|CMD) [0-9/$A:\\[\\]\", -]{0,12}",
            "#? ?(escape|syntax)=[`\\\\a]",
            "[ \t\\\\`#]{0,4}",
        ];
        ("(# escape=`\n)?", proptest::collection::vec(line, 0..10), "(\n|\r\n)")
            .prop_map(|(head, lines, end)| format!("{head}FROM a AS s{end}{}", lines.join(&end)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_looks_like_a_dockerfile_is_planned_or_refused(text in dockerfile(), a in ".{0,6}") {
            match walked(&text, &[("A", &a)]) {
                Ok((steps, config)) => {
                    prop_assert!(config.working_dir.is_empty() || config.working_dir.starts_with('/'));
                    for step in steps {
                        check(&step);
                    }
                }
                Err(fault) => {
                    prop_assert!(fault.line >= 1 && fault.line as usize <= text.split('\n').count());
                    prop_assert!(!fault.message.is_empty() && !fault.message.contains(char::is_control), "{}", fault);
                }
            }
        }

        #[test]
        fn any_text_is_planned_or_refused(text in "\\PC{0,80}|[\\x00-\\x7f]{0,80}") {
            let _ = walked(&text, &[]);
            let _ = walked(&format!("FROM a\nRUN {text}\n{text}"), &[]);
        }
    }

    fn check(step: &Step) {
        let inside = |path: &str| !path.starts_with('/') && path.split('/').all(|part| part != "..");
        match &step.action {
            Action::Copy(copy) => {
                assert!(copy.destination.starts_with('/') && !copy.destination.contains("/../"));
                for source in &copy.sources {
                    match source {
                        Source::Path(path) => assert!(inside(path), "{path}"),
                        Source::Inline { name, .. } => assert!(!name.contains('/') && name != ".."),
                        Source::Url(url) => assert!(url.starts_with("http")),
                    }
                }
            }
            Action::Run(run) => {
                assert!(run.working_dir.starts_with('/') && !run.args.is_empty());
                assert!(run.env.iter().chain(&run.args).all(|word| !word.contains('\0')));
                for mount in &run.mounts {
                    assert!(mount.target.as_deref().is_none_or(|target| target.starts_with('/') && target.len() > 1));
                }
                assert!(run.scripts.iter().all(|script| script.path.starts_with("/dev/pipes/")));
            }
            Action::Workdir { path, .. } => assert!(path.starts_with('/')),
            Action::Configure => assert!(step.material.is_empty()),
        }
    }
}
