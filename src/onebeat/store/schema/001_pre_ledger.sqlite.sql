-- The first ledger. Every table and column is explained in docs/reference/schema.md.
-- Instants are whole microseconds since 1970-01-01T00:00Z; documents are JSON texts; booleans are 0 and 1.

CREATE TABLE onebeat_meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO onebeat_meta (name, value) VALUES ('last_token', 0);

-- Schedules: what every settling reads and writes, and nothing else. What only a change can change is in the
-- row of onebeat_changes that change_id names; the documents are in onebeat_definitions.
CREATE TABLE onebeat_schedules (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    shard INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    version INTEGER NOT NULL,
    settled_until INTEGER NOT NULL,
    next_at INTEGER,
    dormant INTEGER NOT NULL,
    skips TEXT,
    number INTEGER NOT NULL,
    definition_id INTEGER NOT NULL,
    target_id INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    max_running INTEGER,
    change_id INTEGER NOT NULL
) STRICT;

CREATE INDEX onebeat_schedules_due ON onebeat_schedules (next_at, id, shard)
    WHERE next_at IS NOT NULL AND dormant = 0;
CREATE INDEX onebeat_schedules_target ON onebeat_schedules (target_id, dormant);

-- Definitions never change: an edit adds one, and runs point at the one that they were fired under.
CREATE TABLE onebeat_definitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    target_id INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    max_running INTEGER,
    trigger TEXT NOT NULL,
    policy TEXT NOT NULL,
    title TEXT NOT NULL,
    tags TEXT NOT NULL,
    target TEXT NOT NULL,
    UNIQUE (schedule_id, number)
) STRICT;

-- A target is a lane: a queue and the key under which workers announce that they can run it.
CREATE TABLE onebeat_targets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    UNIQUE (queue, key)
) STRICT;

-- The trail: one row for each version that a person or program made, as it was committed. Kept for ever.
CREATE TABLE onebeat_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    edit_id TEXT NOT NULL UNIQUE,
    schedule_id INTEGER NOT NULL,
    schedule TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    version INTEGER NOT NULL,
    definition_id INTEGER NOT NULL,
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    cut_at INTEGER NOT NULL,
    boundary_at INTEGER NOT NULL,
    committed_at INTEGER NOT NULL,
    settled_until INTEGER NOT NULL,
    next_at INTEGER,
    paused TEXT,
    quarantined TEXT,
    deleted INTEGER NOT NULL,
    skips TEXT,
    owner TEXT NOT NULL,
    revision INTEGER NOT NULL,
    applied TEXT,
    tz_version TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (schedule_id, version)
) STRICT;

CREATE INDEX onebeat_changes_purged ON onebeat_changes (schedule) WHERE action = 'schedule.purged';

-- Runs: one row from fire to outcome. slot says which seat of its schedule it has ('live', 'waiting', NULL
-- when finished), watch_at when time overtakes it; both follow from the other columns and are indexed.
CREATE TABLE onebeat_runs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    schedule_id INTEGER NOT NULL,
    schedule TEXT NOT NULL,
    number INTEGER NOT NULL,
    definition_id INTEGER NOT NULL,
    target_id INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ready', 'running', 'succeeded', 'waiting', 'sent', 'parked', 'failed',
        'cancelled', 'timed_out', 'expired', 'handed_over')),
    slot TEXT,
    watch_at INTEGER,
    priority INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    ready_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    occurrence_at INTEGER,
    mark_before INTEGER,
    mark_after INTEGER,
    count INTEGER,
    fold_first_at INTEGER,
    fold_last_at INTEGER,
    fold_count INTEGER,
    deadline_at INTEGER,
    key TEXT,
    reason TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0,
    token INTEGER NOT NULL DEFAULT 0,
    holder TEXT,
    lease_until INTEGER,
    resend_at INTEGER,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    claimed_at INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    outcome TEXT,
    error TEXT,
    result TEXT,
    progress_done INTEGER,
    progress_total INTEGER,
    log_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX onebeat_runs_schedule ON onebeat_runs (schedule_id, slot);
CREATE INDEX onebeat_runs_state ON onebeat_runs (state) WHERE state <> 'ready';
CREATE INDEX onebeat_runs_parked ON onebeat_runs (target_id) WHERE state = 'parked';
CREATE INDEX onebeat_runs_ready ON onebeat_runs (target_id, priority, ready_at, id) WHERE state = 'ready';
CREATE INDEX onebeat_runs_watch ON onebeat_runs (watch_at) WHERE watch_at IS NOT NULL;

-- Events: what leaves no run, and what people changed. id is the cursor of whoever follows them.
CREATE TABLE onebeat_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    schedule_id INTEGER,
    schedule TEXT,
    run_id TEXT,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    mark_before INTEGER,
    mark_after INTEGER,
    first_at INTEGER,
    last_at INTEGER,
    count INTEGER,
    data TEXT
) STRICT;

CREATE INDEX onebeat_events_schedule ON onebeat_events (schedule) WHERE schedule IS NOT NULL;
CREATE INDEX onebeat_events_run ON onebeat_events (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX onebeat_events_tiles ON onebeat_events (schedule_id, mark_after) WHERE mark_after IS NOT NULL;

-- Events of others' transactions, until a node gives them their place among all.
CREATE TABLE onebeat_held_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    schedule_id INTEGER,
    schedule TEXT,
    run_id TEXT,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    mark_before INTEGER,
    mark_after INTEGER,
    first_at INTEGER,
    last_at INTEGER,
    count INTEGER,
    data TEXT
) STRICT;

CREATE TABLE onebeat_log_lines (
    id INTEGER PRIMARY KEY,
    run_seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    level TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX onebeat_log_lines_run ON onebeat_log_lines (run_seq);

-- What purging leaves of a schedule's day (UTC).
CREATE TABLE onebeat_day_summaries (
    schedule_id INTEGER NOT NULL,
    day TEXT NOT NULL,
    fired INTEGER NOT NULL,
    folded INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    mark_before INTEGER NOT NULL,
    mark_after INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE onebeat_nodes (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    roles TEXT NOT NULL,
    queues TEXT NOT NULL,
    targets TEXT NOT NULL,
    version TEXT NOT NULL,
    tz_version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    alive_until INTEGER NOT NULL,
    stopping INTEGER NOT NULL
) STRICT;

-- Every hold and release that was asked for; the hold in force is the "after" of the last row.
CREATE TABLE onebeat_holds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    edit_id TEXT NOT NULL UNIQUE,
    before TEXT,
    after TEXT
) STRICT;

-- How far each named reader of events has come.
CREATE TABLE onebeat_cursors (
    name TEXT PRIMARY KEY,
    event_id INTEGER NOT NULL
) STRICT;
