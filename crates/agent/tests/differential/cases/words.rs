//! ARG, ENV and the expansion of words.

use super::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case("env-forms", "both forms of ENV", "FROM $BASE\nENV A=1 B=\"two words\" C=three\\ words\nENV OLD the rest of the line\nENV D='single $A' E=\"double $A\""),
        case("env-order", "a line sees what the lines before it set", "FROM $BASE\nENV A=old\nENV A=new B=$A\nENV C=$A"),
        case("env-unset", "what is not set is empty", "FROM $BASE\nENV A=x$NOTHING-y B=${NOTHING}z"),
        case("env-default", "defaults and alternatives", "FROM $BASE\nENV S=set E=\nENV A=${S:-d} B=${E:-d} C=${N:-d} D=${S:+a} F=${E:+a} G=${N:+a}"),
        case("env-default-plain", "without the colon", "FROM $BASE\nENV S=set E=\nENV A=${S-d} B=${E-d} C=${N-d} D=${S+a} F=${E+a} G=${N+a}").only_one("buildah knows no `${v-word}` and `${v+word}`"),
        case("env-escape", "escapes and quotes", "FROM $BASE\nENV A=\\$HOME B=\"\\$HOME\" C='\\$HOME' D=\"a\\\"b\" E=a\\\\b"),
        case("env-nested", "expansions in expansions", "FROM $BASE\nENV A=a\nENV B=${N:-${M:-$A}} C=${N:-x$A}y"),
        case("env-required", "a value that has to be there", "FROM $BASE\nENV A=${NOTHING:?it is wanted}").refused(),
        case("env-prefix", "prefixes and suffixes taken off", "# syntax=docker/dockerfile:1\nFROM $BASE\nENV P=foo.bar.baz\nENV A=${P#*.} B=${P##*.} C=${P%.*} D=${P%%.*} E=${P/bar/x}"),
        case("env-in-words", "variables in the words of instructions", "FROM $BASE\nENV D=/dir N=name U=app P=80 S=SIGINT\nWORKDIR $D/sub\nCOPY $N ${D}/${N}.copy\nUSER $U\nEXPOSE $P/udp\nSTOPSIGNAL $S\nLABEL l=$N\nVOLUME $D").file("name", "n"),
        case("env-overrides-base", "over the base image's", "FROM $BASE\nENV PATH=/mine:$PATH"),
        case("arg-default", "a default, and none", "FROM $BASE\nARG A=default\nARG B\nRUN echo \"$A-$B-\" > /x"),
        case("arg-given", "given from outside", "FROM $BASE\nARG A=default\nARG B\nARG C\nRUN echo \"$A-$B-$C\" > /x").arg("A", "given").arg("B", "b c"),
        case("arg-scope", "each stage declares its own", "ARG V=global\nFROM $BASE\nRUN echo \"-$V-\" > /before\nARG V\nRUN echo \"-$V-\" > /after"),
        case("arg-before-from", "arguments of FROM", "ARG IMAGE=$BASE\nARG UNUSED\nFROM $IMAGE AS ax\nRUN echo a > /a\nFROM $BASE\nCOPY --from=ax /a /b"),
        case("arg-and-env", "ENV wins over ARG", "FROM $BASE\nARG V=arg\nENV V=env\nRUN echo $V > /x").arg("V", "given"),
        case("arg-not-kept", "an ARG is not in the image", "FROM $BASE\nARG SECRETLESS=1\nRUN test \"$SECRETLESS\" = 1"),
        case("arg-in-env", "but what an ENV makes of it is", "FROM $BASE\nARG VERSION=1\nENV APP_VERSION=v$VERSION").arg("VERSION", "2"),
        case("arg-platform", "the platform's arguments", "FROM $BASE\nARG TARGETOS\nARG TARGETARCH\nARG TARGETPLATFORM\nRUN echo $TARGETOS/$TARGETARCH $TARGETPLATFORM > /x"),
        case("arg-several", "several on a line", "FROM $BASE\nARG A=1 B=2 C\nRUN echo $A$B$C > /x"),
        case("escape-directive", "another escape", "# escape=`\nFROM $BASE\nRUN echo a `\n b > /x\nENV P=C:\\dir").differs(&["config Env"], "buildah takes a backslash for an escape although the file declares another"),
        case("quotes-in-run", "quotes that the shell sees", "FROM $BASE\nENV V=v\nRUN echo \"$V\" '$V' \\$V \"\\$V\" > /x"),
    ]
}
