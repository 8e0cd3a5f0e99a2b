//! What people write: ten Dockerfiles as they stand in repositories, with busybox in the place of what they would run.

use cakework_testkit::images::Entry;

use super::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "web-node",
            "a Node service: manifest first, then the sources",
            "FROM $BASE
             ENV NODE_ENV=production PORT=3000
             WORKDIR /usr/src/app
             COPY package*.json ./
             RUN mkdir -p node_modules/express && cp package.json node_modules/express/
             COPY . .
             EXPOSE 3000
             USER app
             CMD [\"node\", \"server.js\"]",
        )
        .file("package.json", "{\"name\": \"app\"}")
        .file("package-lock.json", "{}")
        .file("server.js", "listen()")
        .file("routes/index.js", "index()")
        .file("node_modules/left/over.js", "no")
        .file(".dockerignore", "node_modules\n*.md\n.git\n")
        .file("README.md", "words")
        .everyday(),
        case(
            "web-python",
            "a Python service with a user of its own",
            "# syntax=docker/dockerfile:1
             ARG VERSION=3.12
             FROM $BASE
             ENV PYTHONUNBUFFERED=1 \\
             PIP_NO_CACHE_DIR=1
             RUN echo web:x:2000: >> /etc/group && echo web:x:2000:2000::/srv:/bin/sh >> /etc/passwd
             WORKDIR /srv
             COPY --chown=web:web requirements.txt .
             RUN while read name; do mkdir -p /usr/lib/python/$name && echo $name > /usr/lib/python/$name/__init__.py; done < requirements.txt
             COPY --chown=web:web app ./app
             USER web
             EXPOSE 8000/tcp
             HEALTHCHECK --interval=30s --timeout=3s CMD wget -q localhost:8000 || exit 1
             ENTRYPOINT [\"python3\", \"-m\"]
             CMD [\"app\"]",
        )
        .file("requirements.txt", "flask\ngunicorn\n")
        .file("app/__init__.py", "")
        .file("app/main.py", "serve()")
        .entry(Entry::program("app/run.sh", "#!/bin/sh\n"))
        .everyday(),
        case(
            "multi-go",
            "a program compiled in one stage, alone in the last",
            "FROM $BASE AS build
             WORKDIR /src
             COPY go.mod go.sum ./
             RUN cat go.sum > /tmp/modules
             COPY . .
             ARG COMMIT=unknown
             RUN printf '#!/bin/sh\\necho %s\\n' \"$COMMIT\" > /out && chmod 0755 /out
             FROM scratch
             COPY --from=build /out /app
             COPY --from=build /etc/passwd /etc/passwd
             USER 65534:65534
             ENTRYPOINT [\"/app\"]",
        )
        .file("go.mod", "module app")
        .file("go.sum", "sums")
        .file("main.go", "package main")
        .arg("COMMIT", "abc123")
        .everyday(),
        case(
            "static-site",
            "a site that is built, then served",
            "FROM $BASE AS site
             WORKDIR /site
             COPY content/ content/
             RUN mkdir public && for f in content/*.md; do echo \"<p>$(cat $f)</p>\" > public/$(basename $f .md).html; done
             FROM $BASE
             RUN rm -rf /srv/* && mkdir -p /etc/nginx
             COPY --from=site /site/public /srv/www
             COPY nginx.conf /etc/nginx/nginx.conf
             STOPSIGNAL SIGQUIT
             EXPOSE 80 443
             CMD [\"nginx\", \"-g\", \"daemon off;\"]",
        )
        .file("content/one.md", "one")
        .file("content/two.md", "two")
        .file("nginx.conf", "events {}\n")
        .everyday(),
        case(
            "java-layers",
            "an archive that is taken apart, copied in parts",
            "FROM $BASE AS builder
             WORKDIR /application
             ADD app.tar ./
             RUN ls -R . > /listing
             FROM $BASE
             WORKDIR /application
             COPY --from=builder /application/dependencies/ ./
             COPY --from=builder /application/classes/ ./
             COPY --from=builder /listing /tmp/listing
             VOLUME /tmp
             ENTRYPOINT exec java $JAVA_OPTS Main",
        )
        .entry(Entry::File {
            path: "app.tar".into(),
            mode: 0o644,
            bytes: cakework_testkit::images::tar(&[
                Entry::dir("dependencies"),
                Entry::file("dependencies/a.jar", "a"),
                Entry::dir("classes"),
                Entry::file("classes/Main.class", "main"),
            ]),
        })
        .everyday(),
        case(
            "ruby-bundle",
            "a bundle in a cache mount, and assets",
            "FROM $BASE
             WORKDIR /app
             ENV BUNDLE_PATH=/bundle RAILS_ENV=production
             COPY Gemfile Gemfile.lock ./
             RUN --mount=type=cache,target=/root/.bundle/cache \\
             mkdir -p $BUNDLE_PATH && touch /root/.bundle/cache/rack && cp Gemfile.lock $BUNDLE_PATH/installed
             COPY . ./
             RUN mkdir -p public/assets && cat app/*.css > public/assets/all.css \\
             && rm -r app/*.css
             CMD bundle exec rails server",
        )
        .file("Gemfile", "gem 'rack'")
        .file("Gemfile.lock", "rack (3)")
        .file("app/a.css", "a{}")
        .file("app/b.css", "b{}")
        .file("app/c.rb", "c")
        .differs(&["tree /root/.bundle"], "buildah leaves a part of the way to a mount point in the layer")
        .everyday(),
        case(
            "function",
            "a handler of an end user in a hidden Dockerfile",
            "FROM $BASE
             LABEL org.opencontainers.image.title=\"handler\" maintainer=\"someone@example.com\"
             WORKDIR /function
             COPY --chmod=0644 handler.js package.json /function/
             COPY <<-'EOF' /function/server.js
             const handler = require('./handler.js')
             require('http').createServer(handler).listen(process.env.PORT || 8080)
             EOF
             ENV PORT=8080
             EXPOSE $PORT
             CMD [\"node\", \"/function/server.js\"]",
        )
        .file("handler.js", "module.exports = () => 1")
        .file("package.json", "{}")
        .everyday(),
        case(
            "cron-scripts",
            "scripts with modes, links and a crontab",
            "FROM $BASE
             COPY crontab /etc/crontabs/root
             COPY scripts/ /usr/local/bin/
             RUN chmod 0600 /etc/crontabs/root && ln -s /usr/local/bin/backup /usr/local/bin/daily && ln /etc/crontabs/root /etc/crontabs/same
             ENTRYPOINT [\"crond\", \"-f\"]",
        )
        .file("crontab", "0 * * * * backup\n")
        .entry(Entry::dir("scripts"))
        .entry(Entry::program("scripts/backup", "#!/bin/sh\n"))
        .entry(Entry::symlink("scripts/restore", "backup"))
        .mode("scripts/own", 0o750)
        .everyday(),
        case(
            "monorepo-target",
            "one target of several, by build arguments",
            "ARG FLAVOUR=plain
             FROM $BASE AS base
             RUN mkdir /shared && echo shared > /shared/lib
             FROM base AS plain
             RUN echo plain > /flavour
             FROM base AS spicy
             RUN echo spicy > /flavour && false
             FROM ${FLAVOUR} AS service
             ARG SERVICE
             COPY services/${SERVICE}/ /service/
             COPY --from=base /shared /service/shared
             CMD [\"/service/run\"]
             FROM service AS test
             RUN echo never > /tested",
        )
        .file("services/a/run", "a")
        .file("services/b/run", "b")
        .arg("SERVICE", "b")
        .target("service")
        .everyday(),
        case(
            "tools-image",
            "packages installed and cleaned up in one layer",
            "FROM $BASE
             SHELL [\"/bin/ash\", \"-eo\", \"pipefail\", \"-c\"]
             RUN mkdir -p /var/lib/apt/lists /usr/share/doc/x && echo list > /var/lib/apt/lists/a \\
             # the list is not wanted later
             && echo tool > /usr/bin/tool && chmod +x /usr/bin/tool \\
             && rm -rf /var/lib/apt/lists/*
             RUN <<EOF
             echo one | cat > /one
             echo two > /two
             EOF
             RUN rm /one && mv /two /three
             WORKDIR /workspace
             CMD [\"sh\"]",
        )
        .everyday(),
    ]
}
