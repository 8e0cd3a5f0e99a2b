-- Requests that made something and carried an idempotency key: what is sent again is answered, not done again.

CREATE TABLE keyed_requests (
    account_id  TEXT NOT NULL REFERENCES accounts (id),
    -- The tenant that the caller's key is bound to, or an empty text.
    tenant      TEXT NOT NULL,
    key         TEXT NOT NULL,
    -- What was asked for, as a hash, sealed: a body may hold secrets.
    request     BLOB NOT NULL,
    -- The id of what was made, written in the transaction that made it.
    object      TEXT NOT NULL,
    -- The answer's body, sealed, once there was one.
    answer      BLOB,
    created_ms  BIGINT NOT NULL,
    PRIMARY KEY (account_id, tenant, key)
);
CREATE INDEX keyed_requests_by_age ON keyed_requests (created_ms);
CREATE INDEX keyed_requests_by_object ON keyed_requests (object);
