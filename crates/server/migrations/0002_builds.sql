-- Builds, and the registries that they may pull from.

CREATE TABLE builds (
    id           TEXT PRIMARY KEY NOT NULL,
    account_id   TEXT NOT NULL REFERENCES accounts (id),
    tenant       TEXT,
    -- cakework_core::build::BuildState; changed by the store's `apply_build` alone.
    state        TEXT NOT NULL,
    -- What is built, without anything that may be secret.
    spec         TEXT NOT NULL,
    -- Build arguments and secrets, sealed; erased when it is over.
    secrets      BLOB,
    -- The token of its repository, sealed; erased when the repository is fetched.
    token        BLOB,
    -- The placement: no host before it. `incarnation` is the life of the host that confirmed it.
    host_id      TEXT,
    incarnation  TEXT,
    generation   BIGINT NOT NULL,
    placed_ms    BIGINT,
    -- What its host reported last.
    phase        TEXT,
    step         BIGINT NOT NULL,
    steps        BIGINT NOT NULL,
    -- Why it failed; or its image.
    error        TEXT,
    image_id     TEXT REFERENCES images (id),
    metadata     TEXT NOT NULL,
    -- When it has to be over, or to have had its turn; and when the reconciler looks at it next.
    deadline_ms  BIGINT NOT NULL,
    due_ms       BIGINT,
    attempts     BIGINT NOT NULL,
    created_ms   BIGINT NOT NULL,
    updated_ms   BIGINT NOT NULL
);
CREATE INDEX builds_by_account ON builds (account_id, created_ms, id);
CREATE INDEX builds_by_image ON builds (image_id) WHERE image_id IS NOT NULL;
CREATE INDEX builds_queued ON builds (created_ms) WHERE state = 'queued';
CREATE INDEX builds_by_host ON builds (host_id) WHERE state = 'building';
CREATE INDEX builds_placed ON builds (placed_ms) WHERE placed_ms IS NOT NULL;
CREATE INDEX builds_due ON builds (due_ms) WHERE due_ms IS NOT NULL;

CREATE TABLE build_metadata (
    build_id  TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    key       TEXT NOT NULL,
    value     TEXT NOT NULL,
    PRIMARY KEY (build_id, key)
);
CREATE INDEX build_metadata_by_value ON build_metadata (key, value);

-- The build that made an image: no registry has it.
ALTER TABLE images ADD COLUMN build_id TEXT;

CREATE TABLE registries (
    account_id  TEXT NOT NULL REFERENCES accounts (id),
    host        TEXT NOT NULL,
    username    TEXT NOT NULL,
    -- Sealed.
    password    BLOB NOT NULL,
    updated_ms  BIGINT NOT NULL,
    PRIMARY KEY (account_id, host)
);
