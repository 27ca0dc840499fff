-- The first ledger. Every table and column is explained in docs/reference/schema.md.
-- Instants are whole microseconds since 1970-01-01T00:00Z; documents are JSON texts; booleans are 0 and 1.

CREATE TABLE IF NOT EXISTS onebeat_meta (
    name VARCHAR(255) PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

INSERT INTO onebeat_meta (name, value)
    VALUES ('last_token', 0), ('gate_order', 0), ('gate_hold', 0), ('gate_purge', 0), ('gate_fence', 0)
    ON DUPLICATE KEY UPDATE name = name;

-- Schedules: what every settling reads and writes, and nothing else. What only a change can change is in the
-- row of onebeat_changes that change_id names; the documents are in onebeat_definitions.
CREATE TABLE IF NOT EXISTS onebeat_schedules (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(255) NOT NULL UNIQUE,
    shard BIGINT NOT NULL,
    incarnation BIGINT NOT NULL,
    version BIGINT NOT NULL,
    settled_until BIGINT NOT NULL,
    next_at BIGINT,
    dormant BIGINT NOT NULL,
    skips MEDIUMTEXT,
    number BIGINT NOT NULL,
    definition_id BIGINT NOT NULL,
    target_id BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    max_running BIGINT,
    change_id BIGINT NOT NULL,
    INDEX onebeat_schedules_due (dormant, next_at, id, shard),
    INDEX onebeat_schedules_target (target_id, dormant)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Definitions never change: an edit adds one, and runs point at the one that they were fired under.
CREATE TABLE IF NOT EXISTS onebeat_definitions (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    schedule_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    target_id BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    max_running BIGINT,
    "trigger" MEDIUMTEXT NOT NULL,
    policy MEDIUMTEXT NOT NULL,
    title MEDIUMTEXT NOT NULL,
    tags MEDIUMTEXT NOT NULL,
    target MEDIUMTEXT NOT NULL,
    UNIQUE (schedule_id, number)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A target is a lane: a queue and the key under which workers announce that they can run it.
CREATE TABLE IF NOT EXISTS onebeat_targets (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    queue VARCHAR(100) NOT NULL,
    "key" VARCHAR(600) NOT NULL,
    UNIQUE (queue, "key")
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The trail: one row for each version that a person or program made, as it was committed. Kept for ever.
CREATE TABLE IF NOT EXISTS onebeat_changes (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    edit_id VARCHAR(255) NOT NULL UNIQUE,
    schedule_id BIGINT NOT NULL,
    schedule VARCHAR(255) NOT NULL,
    incarnation BIGINT NOT NULL,
    version BIGINT NOT NULL,
    definition_id BIGINT NOT NULL,
    action VARCHAR(100) NOT NULL,
    actor MEDIUMTEXT NOT NULL,
    reason MEDIUMTEXT NOT NULL,
    cut_at BIGINT NOT NULL,
    boundary_at BIGINT NOT NULL,
    committed_at BIGINT NOT NULL,
    settled_until BIGINT NOT NULL,
    next_at BIGINT,
    paused MEDIUMTEXT,
    quarantined MEDIUMTEXT,
    deleted BIGINT NOT NULL,
    skips MEDIUMTEXT,
    owner MEDIUMTEXT NOT NULL,
    revision BIGINT NOT NULL,
    applied MEDIUMTEXT,
    tz_version MEDIUMTEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (schedule_id, version),
    INDEX onebeat_changes_purged (schedule)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Runs: one row from fire to outcome. slot says which seat of its schedule it has ('live', 'waiting', NULL
-- when finished), watch_at when time overtakes it; both follow from the other columns and are indexed.
CREATE TABLE IF NOT EXISTS onebeat_runs (
    seq BIGINT AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR(255) NOT NULL UNIQUE,
    schedule_id BIGINT NOT NULL,
    schedule VARCHAR(255) NOT NULL,
    number BIGINT NOT NULL,
    definition_id BIGINT NOT NULL,
    target_id BIGINT NOT NULL,
    state VARCHAR(20) NOT NULL CHECK (state IN ('ready', 'running', 'succeeded', 'waiting', 'sent', 'parked', 'failed',
        'cancelled', 'timed_out', 'expired', 'handed_over')),
    slot VARCHAR(20),
    watch_at BIGINT,
    priority BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    ready_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    occurrence_at BIGINT,
    mark_before BIGINT,
    mark_after BIGINT,
    count BIGINT,
    fold_first_at BIGINT,
    fold_last_at BIGINT,
    fold_count BIGINT,
    deadline_at BIGINT,
    "key" VARCHAR(600),
    reason MEDIUMTEXT NOT NULL DEFAULT (''),
    attempt BIGINT NOT NULL DEFAULT 0,
    token BIGINT NOT NULL DEFAULT 0,
    holder MEDIUMTEXT,
    lease_until BIGINT,
    resend_at BIGINT,
    cancel_requested BIGINT NOT NULL DEFAULT 0,
    claimed_at BIGINT,
    started_at BIGINT,
    finished_at BIGINT,
    outcome MEDIUMTEXT,
    error MEDIUMTEXT,
    result MEDIUMTEXT,
    progress_done BIGINT,
    progress_total BIGINT,
    log_bytes BIGINT NOT NULL DEFAULT 0,
    INDEX onebeat_runs_schedule (schedule_id, slot),
    INDEX onebeat_runs_ready (state, target_id, priority, ready_at, id),
    INDEX onebeat_runs_watch (watch_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Events: what leaves no run, and what people changed. id is the cursor of whoever follows them.
CREATE TABLE IF NOT EXISTS onebeat_events (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    at BIGINT NOT NULL,
    kind VARCHAR(100) NOT NULL,
    schedule_id BIGINT,
    schedule VARCHAR(255),
    run_id VARCHAR(255),
    actor MEDIUMTEXT NOT NULL,
    reason MEDIUMTEXT NOT NULL,
    mark_before BIGINT,
    mark_after BIGINT,
    first_at BIGINT,
    last_at BIGINT,
    count BIGINT,
    data MEDIUMTEXT,
    INDEX onebeat_events_schedule (schedule),
    INDEX onebeat_events_run (run_id),
    INDEX onebeat_events_tiles (schedule_id, mark_after)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Events of others' transactions, until a node gives them their place among all.
CREATE TABLE IF NOT EXISTS onebeat_held_events (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    at BIGINT NOT NULL,
    kind VARCHAR(100) NOT NULL,
    schedule_id BIGINT,
    schedule VARCHAR(255),
    run_id VARCHAR(255),
    actor MEDIUMTEXT NOT NULL,
    reason MEDIUMTEXT NOT NULL,
    mark_before BIGINT,
    mark_after BIGINT,
    first_at BIGINT,
    last_at BIGINT,
    count BIGINT,
    data MEDIUMTEXT
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS onebeat_log_lines (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    run_seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    level MEDIUMTEXT NOT NULL,
    text MEDIUMTEXT NOT NULL,
    INDEX onebeat_log_lines_run (run_seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What purging leaves of a schedule's day (UTC).
CREATE TABLE IF NOT EXISTS onebeat_day_summaries (
    schedule_id BIGINT NOT NULL,
    day VARCHAR(10) NOT NULL,
    fired BIGINT NOT NULL,
    folded BIGINT NOT NULL,
    skipped BIGINT NOT NULL,
    mark_before BIGINT NOT NULL,
    mark_after BIGINT NOT NULL,
    PRIMARY KEY (schedule_id, day)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS onebeat_nodes (
    id VARCHAR(255) PRIMARY KEY,
    host VARCHAR(255) NOT NULL,
    pid BIGINT NOT NULL,
    roles MEDIUMTEXT NOT NULL,
    queues MEDIUMTEXT NOT NULL,
    targets MEDIUMTEXT NOT NULL,
    version MEDIUMTEXT NOT NULL,
    tz_version MEDIUMTEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    alive_until BIGINT NOT NULL,
    stopping BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Every hold and release that was asked for; the hold in force is the "after" of the last row.
CREATE TABLE IF NOT EXISTS onebeat_holds (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    edit_id VARCHAR(255) NOT NULL UNIQUE,
    "before" MEDIUMTEXT,
    after MEDIUMTEXT
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- How far each named reader of events has come.
CREATE TABLE IF NOT EXISTS onebeat_cursors (
    name VARCHAR(255) PRIMARY KEY,
    event_id BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
