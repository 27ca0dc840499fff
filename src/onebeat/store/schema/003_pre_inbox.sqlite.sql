-- What programs in other languages ask for: they append, and a dispatcher answers. See docs/reference/schema.md.

CREATE TABLE onebeat_inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT,
    actor TEXT,
    reason TEXT,
    answer TEXT CHECK (answer IN ('accepted', 'refused')),
    why TEXT,
    version INTEGER,
    cut_at INTEGER,
    run_id TEXT,
    answered_at INTEGER
) STRICT;

CREATE INDEX onebeat_inbox_waiting ON onebeat_inbox (id) WHERE answer IS NULL;
CREATE INDEX onebeat_inbox_answered ON onebeat_inbox (answered_at) WHERE answered_at IS NOT NULL;
CREATE INDEX onebeat_inbox_key ON onebeat_inbox (key) WHERE key IS NOT NULL;

-- Entries and their answers.
CREATE VIEW onebeat_view_inbox AS SELECT
    i.id AS id,
    i."key" AS "key",
    i.kind AS kind,
    i.name AS name,
    i.document AS document,
    i.actor AS actor,
    i.reason AS reason,
    i.answer AS answer,
    i.why AS why,
    i.version AS version,
    strftime('%Y-%m-%d %H:%M:%S', (i.cut_at - (i.cut_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (i.cut_at % 1000000 + 1000000) % 1000000) AS cut_at,
    i.run_id AS run_id,
    strftime('%Y-%m-%d %H:%M:%S', (i.answered_at - (i.answered_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (i.answered_at % 1000000 + 1000000) % 1000000) AS answered_at
    FROM onebeat_inbox AS i;
