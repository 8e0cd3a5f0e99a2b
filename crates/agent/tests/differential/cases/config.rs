//! What an image says of itself.

use super::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case("config-cmd-forms", "CMD as a list", "FROM $BASE\nCMD [\"a\", \"b c\"]"),
        case("config-cmd-shell", "CMD as a line", "FROM $BASE\nCMD echo $HOME && ls"),
        case(
            "config-entrypoint-drops-cmd",
            "ENTRYPOINT drops the base's CMD",
            "FROM $BASE\nENTRYPOINT [\"/bin/echo\"]",
        ),
        case(
            "config-entrypoint-after-cmd",
            "but not one of its own",
            "FROM $BASE\nCMD [\"x\"]\nENTRYPOINT [\"/bin/echo\"]",
        ),
        case(
            "config-entrypoint-shell",
            "ENTRYPOINT as a line, and in another shell",
            "FROM $BASE\nSHELL [\"/bin/ash\", \"-x\", \"-c\"]\nENTRYPOINT run $THIS\nCMD that",
        )
        .differs(
            &["config Cmd", "config Entrypoint"],
            "Docker's reference: SHELL is for CMD and ENTRYPOINT as well; buildah heeds it for RUN alone",
        ),
        case(
            "config-last-wins",
            "the last CMD and ENTRYPOINT count",
            "FROM $BASE\nCMD [\"1\"]\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]\nCMD [\"2\"]",
        ),
        case("config-empty-lists", "empty lists", "FROM $BASE\nENTRYPOINT []\nCMD []"),
        case(
            "config-labels",
            "labels of many forms",
            "FROM $BASE\nLABEL a=1 b=\"two words\" \"c d\"=e\nLABEL a=2\nLABEL multi=\"line \\\none\"\nLABEL old style",
        ),
        case("config-expose", "ports", "FROM $BASE\nEXPOSE 80 443/tcp 53/udp\nEXPOSE 8000-8002")
            .differs(&["config ExposedPorts"], "a range is each of its ports, as in BuildKit"),
        case("config-volumes", "volumes in both forms", "FROM $BASE\nVOLUME /a /b\nVOLUME [\"/c d\"]")
            .differs(&["tree /c d"], "buildah makes the directory of a volume"),
        case("config-user", "users and groups as they are written", "FROM $BASE\nUSER app:staff"),
        case("config-workdir", "directories", "FROM $BASE\nWORKDIR /a\nWORKDIR b/../c\nWORKDIR ./d/"),
        case("config-stopsignal", "a signal by number", "FROM $BASE\nSTOPSIGNAL 9"),
        case(
            "config-healthcheck",
            "a health check with all options",
            "FROM $BASE\nHEALTHCHECK --interval=5m --timeout=3s --start-period=10s --retries=2 CMD [\"/bin/check\", \"x\"]",
        ),
        case("config-healthcheck-none", "none of it", "FROM $BASE\nHEALTHCHECK CMD true\nHEALTHCHECK NONE"),
        case(
            "config-shell",
            "another shell",
            "FROM $BASE\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $- | grep -q e && echo yes > /x\nCMD exit 0",
        )
        .differs(
            &["config Cmd"],
            "Docker's reference: SHELL is for CMD and ENTRYPOINT as well; buildah heeds it for RUN alone",
        ),
        case("config-maintainer", "the old word for an author", "FROM $BASE\nMAINTAINER someone")
            .differs(&["config Labels"], "MAINTAINER becomes a label here; it is deprecated for one"),
        case("workdir-owner", "who owns a directory that WORKDIR makes", "FROM $BASE\nUSER app\nWORKDIR /made/by/app"),
        case(
            "workdir-exists",
            "a directory that is there",
            "FROM $BASE\nRUN mkdir -m 0700 /d && chown 5:6 /d\nWORKDIR /d",
        ),
        case(
            "case-of-words",
            "instructions in any case, and odd spaces",
            "from $BASE\nrUn   echo a>/x\n   Env A=1\ncmd  [ \"a\" , \"b\" ]",
        ),
        case("unknown-instruction", "a word that is none", "FROM $BASE\nRUNN true").refused(),
        case("no-from", "no FROM", "RUN true").refused(),
        case("empty-list-word", "a list that is no JSON is a line", "FROM $BASE\nCMD ['a', 'b']"),
    ]
}
