//! Stages.

use super::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "stages-by-number",
            "a stage by its number",
            "FROM $BASE\nRUN echo 0 > /zero\nFROM $BASE\nCOPY --from=0 /zero /x",
        ),
        case(
            "stages-from-stage",
            "a stage from a stage",
            "FROM $BASE AS a\nENV A=1\nWORKDIR /w\nUSER app\nFROM a\nENV B=$A",
        ),
        case(
            "stages-unused",
            "a stage that nobody needs is not built",
            "FROM $BASE AS broken\nRUN false\nFROM $BASE\nRUN echo a > /a",
        ),
        case(
            "stages-target",
            "a target in the middle",
            "FROM $BASE AS a\nRUN echo a > /a\nFROM a AS b\nRUN echo b > /b\nFROM b AS c\nRUN echo c > /c",
        )
        .target("b"),
        case(
            "stages-copy-link",
            "a link in another stage",
            "FROM $BASE AS a\nRUN mkdir /real && echo x > /real/x && ln -s /real /link && ln -s real/x /file\nFROM scratch\nCOPY --from=a /link /dir/\nCOPY --from=a /file /copied",
        ),
        case(
            "stages-copy-owner",
            "owners stay between stages",
            "FROM $BASE AS a\nRUN echo a > /a && chown 12:34 /a && mkdir /d && chown 5:6 /d && echo b > /d/b\nFROM scratch\nCOPY --from=a /a /a\nCOPY --from=a /d /d\nCOPY --from=a --chown=1:2 /a /b",
        ),
        case(
            "stages-copy-glob",
            "patterns in another stage",
            "FROM $BASE AS a\nRUN mkdir /o && touch /o/a.so /o/b.so /o/c.a\nFROM scratch\nCOPY --from=a /o/*.so /lib/",
        ),
        case(
            "stages-copy-image",
            "from an image that is no stage",
            "FROM scratch\nCOPY --from=$BASE /etc/passwd /people",
        ),
        case("stages-scratch-only", "nothing but a configuration", "FROM scratch\nENV A=1\nCMD [\"/none\"]")
            .only_one("an image without a file could run nothing, and is refused here"),
        case(
            "stages-name-case",
            "names of stages in any case",
            "FROM $BASE AS Builder\nRUN echo a > /a\nFROM scratch\nCOPY --from=builder /a /a",
        )
        .only_one("stages have names of any case in Docker's reference"),
        case("stages-unknown", "a stage that is not there", "FROM scratch\nCOPY --from=nowhere.invalid/none:1 /a /a")
            .refused(),
        case(
            "stages-deleted",
            "what a later layer of a stage deleted",
            "FROM $BASE AS a\nRUN mkdir /d && touch /d/one /d/two\nRUN rm /d/one\nFROM scratch\nCOPY --from=a /d /d",
        ),
    ]
}
