use super::*;
use crate::fault::FaultCode;

fn inputs(args: &[(&str, &str)], target: Option<&str>) -> Inputs {
    Inputs {
        build_args: args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        target: target.map(str::to_owned),
        architecture: "amd64".to_owned(),
    }
}

fn planned(text: &str, target: Option<&str>) -> Plan {
    plan(text, &inputs(&[], target)).unwrap()
}

fn refused(text: &str) -> Fault {
    plan(text, &inputs(&[], None)).unwrap_err()
}

fn image(name: &str) -> Base {
    Base::Tree(Tree::Image(name.to_owned()))
}

const STAGES: &str = "\
FROM golang:1 AS Build
RUN make
FROM build AS test
RUN test
FROM alpine AS assets
COPY a /a
FROM scratch
COPY --from=0 /x /x
COPY --from=ASSETS /a /a
RUN --mount=type=bind,from=busybox,target=/b true
COPY --from=busybox /c /c
";

#[test]
fn only_needed_stages_are_planned() {
    let plan = planned(STAGES, None);
    let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["build", "assets", "3"]);
    assert_eq!(plan.stages[0].base, image("golang:1"));
    assert_eq!(plan.stages[2].base, Base::Scratch);
    assert_eq!(plan.stages[2].needs, BTreeSet::from([0, 1]));
    assert_eq!((plan.stages[2].line, plan.stages[2].steps, plan.steps()), (7, 4, 6));
    assert_eq!(plan.stages[1].text, "FROM alpine AS assets");
    let images: Vec<Tree> = plan.images().into_iter().cloned().collect();
    assert_eq!(images, ["golang:1", "alpine", "busybox"].map(|name| Tree::Image(name.to_owned())));
}

#[test]
fn a_target_is_a_name_or_a_number() {
    for (target, names) in [
        ("TEST", vec!["build", "test"]),
        ("1", vec!["build", "test"]),
        ("0", vec!["build"]),
        ("assets", vec!["assets"]),
    ] {
        let plan = planned(STAGES, Some(target));
        assert_eq!(plan.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), names, "{target}");
    }
    let plan = planned(STAGES, Some("test"));
    assert_eq!(plan.stages[1].base, Base::Tree(Tree::Stage(0)));
    for target in ["nope", "4", "-1"] {
        assert!(super::plan(STAGES, &inputs(&[], Some(target))).is_err(), "{target}");
    }
}

#[test]
fn a_base_is_named_by_args_that_stand_before() {
    let text = "ARG V=3.19\nARG I=alpine:${V%.*}\nFROM --platform=$BUILDPLATFORM ${I}-$TARGETARCH AS a\nFROM ${U:-a}\n";
    let plan = planned(text, None);
    assert_eq!(plan.stages[0].base, image("alpine:3-amd64"));
    assert_eq!(plan.stages[1].base, Base::Tree(Tree::Stage(0)));
    let plan = super::plan(text, &inputs(&[("V", "9.1"), ("TARGETARCH", "x")], None)).unwrap();
    assert_eq!(plan.stages[0].base, image("alpine:9-x"));
}

#[test]
fn own_images_are_named_by_their_id() {
    let plan = planned("FROM cakework/01GTZHKS9CZHQ1NKZCA3MG0H4D", None);
    assert_eq!(plan.stages[0].base, Base::Tree(Tree::Own("01GTZHKS9CZHQ1NKZCA3MG0H4D".to_owned())));
    assert_eq!(refused("FROM cakework/python").code, FaultCode::Invalid);
}

#[test]
fn a_stage_named_like_an_image_is_no_obstacle() {
    let plan = planned("FROM alpine AS base\nFROM base AS alpine\nFROM alpine\n", None);
    assert_eq!(plan.stages[0].base, image("alpine"));
    assert_eq!(plan.stages[2].base, Base::Tree(Tree::Stage(1)));
    assert_eq!(planned("FROM node AS node", None).stages[0].base, image("node"));
}

#[test]
fn platforms_of_other_machines_are_refused() {
    for platform in ["linux/amd64", "linux", "amd64", "$TARGETPLATFORM", "linux/x86_64", "LINUX/amd64"] {
        planned(&format!("FROM --platform={platform} a"), None);
    }
    for platform in ["linux/arm64", "windows/amd64", "", "linux/amd64/v3", "$U"] {
        let fault = refused(&format!("FROM --platform={platform} a"));
        assert_eq!(fault.code, FaultCode::Unsupported, "{platform}");
    }
    planned("FROM --platform=windows/amd64 a\nFROM b", None);
}

#[test]
fn faults_name_code_line_and_instruction() {
    use FaultCode::{Invalid, Unsupported};
    for (text, code, line) in [
        ("", Invalid, 1),
        ("# only a comment", Invalid, 1),
        ("ARG A", Invalid, 1),
        ("RUN a", Invalid, 1),
        ("ARG A\nENV A=b\nFROM a", Invalid, 2),
        ("FROM", Invalid, 1),
        ("FROM a b", Invalid, 1),
        ("FROM a AS", Invalid, 1),
        ("FROM a AS b c", Invalid, 1),
        ("FROM a AS 1b", Invalid, 1),
        ("FROM a AS ü", Invalid, 1),
        ("FROM $U", Invalid, 1),
        ("FROM ${U", Invalid, 1),
        ("FROM \"a b\"", Invalid, 1),
        ("ARG A=${U:?}\nFROM a", Invalid, 1),
        ("FROM --pull a", Unsupported, 1),
        ("FROM --platform a", Invalid, 1),
        ("FROM a\nFOO bar", Invalid, 2),
        ("FROM a\nONBUILD RUN b\nFROM c", Unsupported, 2),
        ("FROM a\nCOPY --from=1 a b\nFROM b", Invalid, 2),
        ("FROM a\nCOPY --from=0 a b", Invalid, 2),
        ("FROM a\nCOPY --from=5 a b", Invalid, 2),
        ("FROM a AS x\nCOPY --from=x a b", Invalid, 2),
        ("FROM a AS x\n\nCOPY --from=y a b\nFROM b AS y", Invalid, 3),
        ("FROM a AS x\nRUN --mount=from=y,target=/b a\nFROM b AS y", Invalid, 2),
        ("FROM a\nCOPY --from=scratch a b", Invalid, 2),
        ("FROM a\nCOPY --from=$X a b", Invalid, 2),
        ("FROM a\nCOPY --from= a b", Invalid, 2),
        ("FROM a\nCOPY --parents a b", Unsupported, 2),
        ("FROM a\nCOPY a", Invalid, 2),
        ("FROM a\nCOPY", Invalid, 2),
        ("FROM a\nCOPY []", Invalid, 2),
        ("FROM a\nCOPY [\"a\", 1]", Invalid, 2),
        ("FROM a\nCOPY [\"a\", \"b\\u0000\"]", Invalid, 2),
        ("FROM a\nCOPY --bogus a b", Unsupported, 2),
        ("FROM a\nCOPY --link=maybe a b", Invalid, 2),
        ("FROM a\nCOPY --chown=1 --chown=2 a b", Invalid, 2),
        ("FROM a\nCOPY --chown a b", Invalid, 2),
        ("FROM a\nCOPY --checksum=sha256:0 a b", Unsupported, 2),
        ("FROM a\nCOPY --exclude=[ a b", Invalid, 2),
        ("FROM a\nCOPY a <<EOF\nEOF", Invalid, 2),
        ("FROM a\nCOPY << EOF /x\nEOF", Invalid, 2),
        ("FROM a\nCOPY <<a/b /x\na/b", Invalid, 2),
        ("FROM a\nCOPY --from=b <<E /x\nE", Invalid, 2),
        ("FROM a\nADD --from=b a c", Unsupported, 2),
        ("FROM a\nADD --keep-git-dir a c", Unsupported, 2),
        ("FROM a\nADD --unpack=false a c", Unsupported, 2),
        ("FROM a\nRUN", Invalid, 2),
        ("FROM a\nRUN []", Invalid, 2),
        ("FROM a\nRUN [1]", Invalid, 2),
        ("FROM a\nRUN --network=host a", Unsupported, 2),
        ("FROM a\nRUN --network=x a", Invalid, 2),
        ("FROM a\nRUN --security=insecure a", Unsupported, 2),
        ("FROM a\nRUN --device=gpu a", Unsupported, 2),
        ("FROM a\nRUN --mount=type=ssh a", Unsupported, 2),
        ("FROM a\nRUN --mount=type=cache,bogus=1 a", Unsupported, 2),
        ("FROM a\nRUN --mount=target a", Invalid, 2),
        ("FROM a\nRUN --mount=from=$X,target=/a a", Invalid, 2),
        ("FROM a\nRUN <<a/b\n#!/bin/sh\na/b", Invalid, 2),
        ("FROM a\nRUN <<EOF\necho", Invalid, 2),
        ("FROM a\nCMD", Invalid, 2),
        ("FROM a\nCMD --x", Invalid, 2),
        ("FROM a\nENTRYPOINT", Invalid, 2),
        ("FROM a\nENV", Invalid, 2),
        ("FROM a\nENV A", Invalid, 2),
        ("FROM a\nENV A=1 B", Invalid, 2),
        ("FROM a\nENV =1", Invalid, 2),
        ("FROM a\nLABEL =1", Invalid, 2),
        ("FROM a\nARG", Invalid, 2),
        ("FROM a\nARG =1", Invalid, 2),
        ("FROM a\nEXPOSE", Invalid, 2),
        ("FROM a\nSHELL bash", Invalid, 2),
        ("FROM a\nSHELL []", Invalid, 2),
        ("FROM a\nUSER", Invalid, 2),
        ("FROM a\nWORKDIR", Invalid, 2),
        ("FROM a\nVOLUME", Invalid, 2),
        ("FROM a\nVOLUME [\"\"]", Invalid, 2),
        ("FROM a\nSTOPSIGNAL", Invalid, 2),
        ("FROM a\nMAINTAINER", Invalid, 2),
        ("FROM a\nHEALTHCHECK", Invalid, 2),
        ("FROM a\nHEALTHCHECK NONE x", Invalid, 2),
        ("FROM a\nHEALTHCHECK CMD", Invalid, 2),
        ("FROM a\nHEALTHCHECK CMD []", Invalid, 2),
        ("FROM a\nHEALTHCHECK --interval=1 CMD a", Invalid, 2),
        ("FROM a\nHEALTHCHECK --interval=1us CMD a", Invalid, 2),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD a", Invalid, 2),
        ("FROM a\nHEALTHCHECK --bogus=1 CMD a", Unsupported, 2),
    ] {
        let fault = refused(text);
        assert_eq!((fault.code, fault.line), (code, line), "{text:?}: {fault}");
        let instruction = text.lines().nth(line as usize - 1).unwrap_or_default();
        assert!(fault.instruction.is_empty() || instruction.starts_with(&fault.instruction), "{text:?}");
        assert!(fault.message.ends_with('.') || fault.message.ends_with('…'), "{}", fault.message);
    }
}

#[test]
fn given_args_are_checked_where_they_are_used() {
    let given = inputs(&[("A", "x\0y")], None);
    assert!(plan("ARG A\nFROM a", &given).is_err());
    assert!(plan("FROM a", &given).is_ok());
}
