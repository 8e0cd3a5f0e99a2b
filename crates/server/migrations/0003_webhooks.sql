-- Endpoints, the events that there was somebody to tell of, and what of them is on its way to whom. An event and its
-- deliveries are written in the transaction of the change that they tell of.

CREATE TABLE webhooks (
    id                TEXT PRIMARY KEY NOT NULL,
    account_id        TEXT NOT NULL REFERENCES accounts (id),
    -- Only events of this end user.
    tenant            TEXT,
    url               TEXT NOT NULL,
    -- List of kinds; all where it is empty.
    events            TEXT,
    description       TEXT,
    -- The key of the signatures, sealed, and the one before it while both sign.
    secret            BLOB NOT NULL,
    old_secret        BLOB,
    old_until_ms      BIGINT,
    -- First and last of the failures since the last success.
    failing_since_ms  BIGINT,
    failed_ms         BIGINT,
    -- Since when and why nothing is sent: `gone` or `failing`.
    disabled_ms       BIGINT,
    disabled_why      TEXT,
    created_ms        BIGINT NOT NULL,
    updated_ms        BIGINT NOT NULL
);
CREATE INDEX webhooks_by_account ON webhooks (account_id, created_ms, id);
CREATE INDEX webhooks_old_secrets ON webhooks (old_until_ms) WHERE old_until_ms IS NOT NULL;

CREATE TABLE events (
    id          TEXT PRIMARY KEY NOT NULL,
    account_id  TEXT NOT NULL REFERENCES accounts (id),
    kind        TEXT NOT NULL,
    -- What it tells; the body is made from it.
    payload     TEXT NOT NULL,
    created_ms  BIGINT NOT NULL
);
CREATE INDEX events_by_age ON events (created_ms);

CREATE TABLE deliveries (
    webhook_id   TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id     TEXT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    kind         TEXT NOT NULL,
    -- `pending`, `delivered` or `failed`.
    state        TEXT NOT NULL,
    attempts     BIGINT NOT NULL,
    -- When it is tried next; while it is tried, when whoever tries it counts as gone.
    due_ms       BIGINT,
    -- The last attempt.
    status_code  BIGINT,
    error        TEXT,
    duration_ms  BIGINT,
    created_ms   BIGINT NOT NULL,
    updated_ms   BIGINT NOT NULL,
    PRIMARY KEY (webhook_id, event_id)
);
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, created_ms, event_id);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_due ON deliveries (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX deliveries_due_by_webhook ON deliveries (webhook_id, due_ms) WHERE due_ms IS NOT NULL;
