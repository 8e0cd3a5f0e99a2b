//! RUN: what it leaves, and in what it runs.

use super::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "run-shell",
            "the shell form",
            "FROM $BASE\nRUN echo \"a  b\" > /x && echo $((1 + 2)) >> /x; echo 'c' >> /x",
        ),
        case(
            "run-exec",
            "the exec form, without a shell",
            "FROM $BASE\nENV V=1\nRUN [\"/bin/sh\", \"-c\", \"echo $V-$0 > /x\", \"zero\"]\nRUN [\"touch\", \"/$V\"]",
        ),
        case(
            "run-heredoc",
            "here-documents",
            "FROM $BASE\nRUN <<EOF\nset -e\necho one > /one\nmkdir /d\necho $HOME > /d/home\nEOF\nRUN cat <<A >/two && cat <<B >/three\nfirst\nA\nsecond\nB",
        ),
        case(
            "run-heredoc-script",
            "a here-document with an interpreter",
            "FROM $BASE\nRUN <<EOF\n#!/bin/ash\necho $0 | grep -q . && echo ash > /who\nEOF",
        )
        .only_one("buildah's chroot isolation does not find the script"),
        case(
            "run-user",
            "as another user",
            "FROM $BASE\nRUN mkdir -m 1777 /shared\nUSER app\nRUN id -u > /shared/id && id -g >> /shared/id && echo $HOME > /shared/home\nUSER 7:8\nRUN id -u > /shared/seven && id -g >> /shared/seven",
        ),
        case(
            "run-user-groups",
            "with the groups of that user",
            "FROM $BASE\nRUN mkdir -m 1777 /s\nUSER app\nRUN id -G > /s/groups\nUSER app:staff\nRUN id -g > /s/group",
        ),
        case(
            "run-workdir",
            "in the directory of WORKDIR",
            "FROM $BASE\nWORKDIR /a/b\nRUN pwd > here\nWORKDIR c\nRUN pwd > here\nWORKDIR /d\nRUN pwd > here",
        ),
        case(
            "run-deletes",
            "files and directories removed",
            "FROM $BASE\nRUN mkdir -p /d/sub && echo 1 > /d/sub/one && echo 2 > /two\nRUN rm /two && rm -r /d/sub",
        ),
        case(
            "run-replaces-dir",
            "a directory removed and made anew",
            "FROM $BASE\nRUN mkdir /d && echo old > /d/old\nRUN rm -r /d && mkdir -m 0700 /d && echo new > /d/new",
        ),
        case(
            "run-file-to-dir",
            "a file that becomes a directory, and back",
            "FROM $BASE\nRUN echo f > /x && mkdir /y && echo z > /y/z\nRUN rm /x && mkdir /x && echo a > /x/a && rm -r /y && echo f > /y",
        ),
        case(
            "run-deletes-base",
            "what the base image had",
            "FROM $BASE\nRUN rm -r /home && rm /etc/group && mv /etc/passwd /etc/people",
        ),
        case(
            "run-links",
            "links of both kinds",
            "FROM $BASE\nRUN echo a > /a && ln /a /b && ln -s /a /c && ln -s nothing /d && mkdir /e && ln -s ../a /e/f",
        ),
        case("run-link-later", "a hard link to a file of an earlier step", "FROM $BASE\nRUN echo a > /a\nRUN ln /a /b"),
        case(
            "run-modes",
            "modes and owners",
            "FROM $BASE\nRUN echo a > /a && chmod 4755 /a && chown 12:34 /a; mkdir -m 3777 /d; touch /e && chmod 0 /e; chown app:staff /d",
        ),
        case(
            "run-touches-mode-only",
            "a change of the mode alone",
            "FROM $BASE\nCOPY a /a\nRUN chmod 0600 /a\nRUN chown 5:6 /a",
        )
        .file("a", "a"),
        case(
            "run-umask",
            "the mask of new files",
            "FROM $BASE\nRUN touch /a && mkdir /b && umask 077 && touch /c && mkdir /d",
        ),
        case(
            "run-tmp",
            "files in /tmp and /var stay",
            "FROM $BASE\nRUN echo a > /tmp/a && mkdir -p /var/x && echo b > /var/x/b",
        ),
        case(
            "run-cache-mount",
            "a cache mount leaves nothing of itself",
            "FROM $BASE\nRUN mkdir /cache && echo under > /cache/under\nRUN --mount=type=cache,target=/cache echo in > /cache/in\nRUN --mount=type=cache,target=/cache cp /cache/in /out",
        ),
        case(
            "run-bind-stage",
            "a bind of another stage",
            "FROM $BASE AS other\nRUN mkdir /data && echo data > /data/x\nFROM $BASE\nRUN mkdir /m\nRUN --mount=type=bind,from=other,source=/data,target=/m cp /m/x /copy",
        ),
        case(
            "run-bind-context",
            "a bind of the context",
            "FROM $BASE\nRUN mkdir /m\nRUN --mount=type=bind,target=/m cat /m/a /m/d/b > /all",
        )
        .file("a", "a")
        .file("d/b", "b"),
        case(
            "run-tmpfs",
            "a tmpfs",
            "FROM $BASE\nRUN mkdir /t && echo under > /t/under\nRUN --mount=type=tmpfs,target=/t test ! -e /t/under && echo gone > /t/x && cp /t/x /x",
        ),
        case("run-no-network", "without a network", "FROM $BASE\nRUN --network=none echo done > /x"),
        case("run-fails", "a command that fails", "FROM $BASE\nRUN false").refused(),
        case("run-no-shell", "without a shell to run in", "FROM scratch\nCOPY a /a\nRUN echo a")
            .file("a", "a")
            .refused(),
        case(
            "run-many-lines",
            "continued lines, comments and empty lines between",
            "FROM $BASE\nRUN echo a \\\n# a comment\n\\\n  b \\\n\n  c > /x",
        ),
        case(
            "run-dir-times",
            "a directory that a step only looks into",
            "FROM $BASE\nRUN mkdir -p /a/b/c\nRUN test -d /a/b\nRUN touch /a/b/c/d && rm /a/b/c/d",
        ),
        case("run-root-mode", "the mode of / itself", "FROM $BASE\nRUN chmod 0711 /\nRUN stat -c %a / > /seen")
            .differs(&["tree /seen"], "the next step sees `/` as 0755 here"),
        case("run-fifo", "a named pipe", "FROM $BASE\nRUN mkfifo /pipe && echo a > /a")
            .differs(&["tree /pipe"], "a pipe that a RUN makes is in no layer here"),
    ]
}
