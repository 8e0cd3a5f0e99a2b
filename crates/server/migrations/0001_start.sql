-- Moments are Unix milliseconds, JSON is text, booleans are not used: the same statements run on PostgreSQL.

CREATE TABLE accounts (
    id          TEXT PRIMARY KEY NOT NULL,
    name        TEXT NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id            TEXT PRIMARY KEY NOT NULL,
    account_id    TEXT NOT NULL REFERENCES accounts (id),
    -- A key bound to a tenant sees and makes only that tenant's objects.
    tenant        TEXT,
    name          TEXT NOT NULL,
    scope         TEXT NOT NULL,
    -- SHA-256 of the secret, in hex.
    secret_hash   TEXT NOT NULL,
    created_ms    BIGINT NOT NULL,
    expires_ms    BIGINT,
    last_used_ms  BIGINT,
    revoked_ms    BIGINT
);

CREATE TABLE hosts (
    id           TEXT PRIMARY KEY NOT NULL,
    incarnation  TEXT NOT NULL,
    seen_ms      BIGINT NOT NULL
);

CREATE TABLE images (
    id           TEXT PRIMARY KEY NOT NULL,
    account_id   TEXT NOT NULL REFERENCES accounts (id),
    tenant       TEXT,
    reference    TEXT NOT NULL,
    digest       TEXT NOT NULL,
    size_bytes   BIGINT NOT NULL,
    state        TEXT NOT NULL,
    done_bytes   BIGINT NOT NULL,
    -- {"code", "message"} of a failed image.
    error        TEXT,
    -- The registry credential, sealed; there only while layers arrive.
    credential   BLOB,
    -- When the reconciler looks at it next.
    due_ms       BIGINT,
    attempts     BIGINT NOT NULL,
    created_ms   BIGINT NOT NULL,
    updated_ms   BIGINT NOT NULL
);
CREATE INDEX images_by_account ON images (account_id, created_ms, id);
CREATE INDEX images_by_digest ON images (digest);
CREATE INDEX images_due ON images (due_ms) WHERE due_ms IS NOT NULL;

CREATE TABLE vms (
    id           TEXT PRIMARY KEY NOT NULL,
    account_id   TEXT NOT NULL REFERENCES accounts (id),
    tenant       TEXT,
    image_id     TEXT NOT NULL REFERENCES images (id),
    label        TEXT NOT NULL UNIQUE,
    -- cakework_core::lifecycle::VmState; changed by the store's `apply` alone.
    state        TEXT NOT NULL,
    -- The placement: no host before the first one. `incarnation` is the life of the host that confirmed it.
    host_id      TEXT,
    incarnation  TEXT,
    generation   BIGINT NOT NULL,
    isolation    TEXT,
    -- The address that the edge reaches, while it runs.
    address      TEXT,
    -- VmSpec without its environment, which may hold secrets: that is sealed, and erased at the end.
    spec         TEXT NOT NULL,
    env          BLOB,
    cpu          BIGINT NOT NULL,
    memory_mib   BIGINT NOT NULL,
    volume_gb    BIGINT NOT NULL,
    port         BIGINT,
    metadata     TEXT NOT NULL,
    timeout_ms   BIGINT,
    -- How it will have ended, if its host can't tell; and how it ended.
    wish         TEXT,
    exit         TEXT,
    -- Grows with every change over all VMs: followers read from the last they saw.
    seq          BIGINT NOT NULL,
    -- End of a transient state, and when the reconciler looks at it next.
    deadline_ms  BIGINT,
    due_ms       BIGINT,
    attempts     BIGINT NOT NULL,
    created_ms   BIGINT NOT NULL,
    updated_ms   BIGINT NOT NULL
);
CREATE INDEX vms_by_account ON vms (account_id, created_ms, id);
CREATE INDEX vms_live ON vms (account_id) WHERE state <> 'destroyed';
CREATE INDEX vms_by_host ON vms (host_id) WHERE state <> 'destroyed';
CREATE INDEX vms_by_seq ON vms (seq);
CREATE INDEX vms_due ON vms (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX vms_destroyed ON vms (updated_ms) WHERE state = 'destroyed';

CREATE TABLE vm_metadata (
    vm_id  TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (vm_id, key)
);
CREATE INDEX vm_metadata_by_value ON vm_metadata (key, value);

CREATE TABLE counters (
    name   TEXT PRIMARY KEY NOT NULL,
    value  BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('vms', 0);
