-- What programs in other languages ask for: they append, and a dispatcher answers. See docs/reference/schema.md.

CREATE TABLE IF NOT EXISTS onebeat_inbox (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    "key" VARCHAR(255),
    kind VARCHAR(100) NOT NULL,
    name VARCHAR(255) NOT NULL,
    document LONGTEXT,
    actor MEDIUMTEXT,
    reason MEDIUMTEXT,
    answer VARCHAR(10),
    why MEDIUMTEXT,
    version BIGINT,
    cut_at BIGINT,
    run_id VARCHAR(255),
    answered_at BIGINT,
    INDEX onebeat_inbox_waiting (answer, id),
    INDEX onebeat_inbox_answered (answered_at),
    INDEX onebeat_inbox_key ("key")
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Entries and their answers.
CREATE OR REPLACE VIEW onebeat_view_inbox AS SELECT
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
    TIMESTAMPADD(MICROSECOND, i.cut_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS cut_at,
    i.run_id AS run_id,
    TIMESTAMPADD(MICROSECOND, i.answered_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS answered_at
    FROM onebeat_inbox AS i;
