/**
 * The tables of each version, and the roles.
 *
 * - `queue`: one row a queue. Whoever stores or removes locks it first, so that ids follow
 *   commits without a gap, and the counts are exact. `epoch` and `tenure` are those of the
 *   sender who may remove; `version` grows with each change.
 *   `written_at_ms` and `clock_offset_ms` are of the database's own clock: what has to be added to
 *   it, so that the time by which packets expire goes on however it is set.
 * - `run`: packets that follow each other and were stored together, as a row of the file has
 *   them; `ends` says where each ends in `payload`. Packets up to `queue.removed_through` are
 *   gone, even where their row is still there for the sake of later ones.
 * - `dead_letter`: packets that nobody sends any more, under their old ids.
 * - `producer`: what each open queue has asked for last, and the answer to it, so that a
 *   question whose answer was lost can be asked again. A sender has a second one, that counts
 *   what was handed out to it. Ids up to `reserved_through` may have been sent.
 * - `lease`: who sends. `tenure` is drawn by each holder, so that no other one has it, in
 *   whatever state the database is found. `beat` grows as long as the holder lives; `beat_at` is
 *   for people, and nothing is decided by it. `ttl_ms` is for how long the holder takes a beat
 *   for good.
 */

/** Everything that version 1 begins with. */
export const TABLES: string = `
CREATE SCHEMA sendq;
REVOKE ALL ON SCHEMA sendq FROM public;

CREATE TABLE sendq.migration (
  version integer PRIMARY KEY,
  made_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sendq.queue (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  epoch bigint NOT NULL DEFAULT 0,
  version bigint NOT NULL DEFAULT 0,
  packets bigint NOT NULL DEFAULT 0 CHECK (packets >= 0),
  bytes bigint NOT NULL DEFAULT 0,
  last_id bigint NOT NULL DEFAULT 0,
  removed_through bigint NOT NULL DEFAULT 0,
  sent_through bigint NOT NULL DEFAULT 0,
  dropped_packets bigint NOT NULL DEFAULT 0,
  dropped_bytes bigint NOT NULL DEFAULT 0,
  dead_packets bigint NOT NULL DEFAULT 0 CHECK (dead_packets >= 0),
  dead_bytes bigint NOT NULL DEFAULT 0 CHECK (dead_bytes >= 0),
  expired_packets bigint NOT NULL DEFAULT 0,
  gave_up_packets bigint NOT NULL DEFAULT 0,
  damaged_packets bigint NOT NULL DEFAULT 0,
  refused_packets bigint NOT NULL DEFAULT 0,
  stored_bytes bigint NOT NULL DEFAULT 0,
  written_at_ms bigint NOT NULL DEFAULT 0,
  clock_offset_ms bigint NOT NULL DEFAULT 0,
  CHECK (removed_through <= last_id AND sent_through <= last_id),
  CHECK (packets <= last_id - removed_through),
  CHECK (bytes >= packets AND (packets = 0) = (bytes = 0))
) WITH (fillfactor = 25);

CREATE TABLE sendq.run (
  queue integer NOT NULL REFERENCES sendq.queue ON DELETE CASCADE,
  last_id bigint NOT NULL,
  first_id bigint NOT NULL CHECK (first_id BETWEEN 1 AND last_id),
  enqueued_at_ms bigint NOT NULL,
  expires_at_ms bigint,
  ends integer[] NOT NULL CHECK (cardinality(ends) = last_id + 1 - first_id),
  payload bytea NOT NULL CHECK (length(payload) > 0),
  PRIMARY KEY (queue, last_id)
);
ALTER TABLE sendq.run ALTER payload SET STORAGE EXTERNAL;
CREATE INDEX run_by_expiry ON sendq.run (queue, expires_at_ms) WHERE expires_at_ms IS NOT NULL;

CREATE TABLE sendq.dead_letter (
  queue integer NOT NULL REFERENCES sendq.queue ON DELETE CASCADE,
  id bigint NOT NULL,
  enqueued_at_ms bigint NOT NULL,
  died_at_ms bigint NOT NULL,
  reason text NOT NULL,
  sent boolean NOT NULL,
  attempts integer NOT NULL,
  words text,
  payload bytea NOT NULL,
  PRIMARY KEY (queue, id)
);
ALTER TABLE sendq.dead_letter ALTER payload SET STORAGE EXTERNAL;

CREATE TABLE sendq.producer (
  queue integer NOT NULL REFERENCES sendq.queue ON DELETE CASCADE,
  id uuid NOT NULL,
  call bigint NOT NULL,
  answer jsonb NOT NULL,
  called_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (queue, id)
) WITH (fillfactor = 25);

CREATE TABLE sendq.lease (
  queue integer PRIMARY KEY REFERENCES sendq.queue ON DELETE CASCADE,
  epoch bigint NOT NULL DEFAULT 0,
  beat bigint NOT NULL DEFAULT 0,
  holder text,
  notice text NOT NULL DEFAULT ''
) WITH (fillfactor = 25);

DO $$
DECLARE
  chain text[] := '{sendq_producer, sendq_sender, sendq_operator}';
BEGIN
  -- Roles are the whole cluster's: another database, or an administrator, may have made them, or be
  -- making them now, which nobody sees before he has ended. He is waited for.
  FOR i IN 1 .. 3 LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = chain[i]) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', chain[i]);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
      END;
    END IF;
  END LOOP;
  -- Each may do what the one before may. Only who has made them may say so.
  FOR i IN 2 .. 3 LOOP
    IF NOT pg_has_role(chain[i], chain[i - 1], 'MEMBER') THEN
      BEGIN
        EXECUTE format('GRANT %I TO %I', chain[i - 1], chain[i]);
      EXCEPTION WHEN unique_violation THEN NULL;
      END;
    END IF;
  END LOOP;
END $$;
GRANT USAGE ON SCHEMA sendq TO sendq_producer;
GRANT SELECT ON sendq.migration TO sendq_operator;
`;

/**
 * What checksums are made of. It is made anew with the functions of each version: triggers name
 * it, of which the database does not know that they need it.
 */
export const CHECKSUM_OF: string = `
CREATE OR REPLACE FUNCTION sendq.checksum_of(id bigint, ends integer[], payload bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  -- 8 bytes of it are enough against chance.
  RETURN substring(sha256(int8send(id) || coalesce(array_send(ends), '') || payload) FOR 8);
END $$;
`;

/**
 * Version 2: each row has a checksum, which the database keeps by itself. Its own checksums
 * of pages are off by default, and know nothing of what was damaged in memory.
 */
export const CHECKSUMS: string = `
${CHECKSUM_OF}

ALTER TABLE sendq.run
  ADD checksum bytea GENERATED ALWAYS AS (sendq.checksum_of(last_id, ends, payload)) STORED;
ALTER TABLE sendq.dead_letter
  ADD checksum bytea GENERATED ALWAYS AS (sendq.checksum_of(id, NULL, payload)) STORED;
`;

/**
 * Version 3: a tenure is known by what its holder has drawn, and what is going to be sent is
 * written before.
 */
export const TENURES: string = `
ALTER TABLE sendq.queue ADD tenure uuid;
ALTER TABLE sendq.lease ADD tenure uuid, ADD beat_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE sendq.producer ADD reserved_through bigint NOT NULL DEFAULT 0;
`;

/**
 * Version 6: the same holds at the tables, and a commit pays less for it.
 *
 * - Triggers hold rows to be sound and make their checksums: PostgreSQL parses each CHECK and each
 *   generated column anew in each statement, which took longer than the row itself.
 * - A trigger removes a queue's runs with it. The foreign key looked for the queue again at each
 *   run, though who stores has locked it.
 * - `oldest_ms` is when the oldest packet was stored; `NULL`: there is none, or it is being
 *   looked for, because the oldest one has gone.
 */
export const TRIGGERS: string = `
DO $$
DECLARE
  old record;
BEGIN
  FOR old IN SELECT conrelid::regclass AS of, conname FROM pg_constraint
    WHERE (conrelid IN ('sendq.queue'::regclass, 'sendq.run'::regclass) AND contype = 'c')
      OR (conrelid = 'sendq.run'::regclass AND contype = 'f')
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', old.of, old.conname);
  END LOOP;
END $$;
ALTER TABLE sendq.run ALTER checksum DROP EXPRESSION;
ALTER TABLE sendq.dead_letter ALTER checksum DROP EXPRESSION;
ALTER TABLE sendq.queue ADD oldest_ms bigint;
UPDATE sendq.queue AS q SET oldest_ms = (
  SELECT r.enqueued_at_ms FROM sendq.run r WHERE r.queue = q.id AND r.last_id > q.removed_through
  ORDER BY r.last_id LIMIT 1
);

CREATE FUNCTION sendq.keep_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.packets BETWEEN 0 AND NEW.last_id - NEW.removed_through
    AND NEW.bytes >= NEW.packets AND (NEW.packets = 0) = (NEW.bytes = 0)
    AND NEW.sent_through <= NEW.last_id AND least(NEW.dead_packets, NEW.dead_bytes) >= 0
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'the counts of queue % contradict each other', NEW.name
    USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON sendq.queue
  FOR EACH ROW EXECUTE FUNCTION sendq.keep_queue();

CREATE FUNCTION sendq.keep_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.first_id BETWEEN 1 AND NEW.last_id AND length(NEW.payload) > 0
    AND cardinality(NEW.ends) = NEW.last_id + 1 - NEW.first_id
  THEN
    NEW.checksum := sendq.checksum_of(NEW.last_id, NEW.ends, NEW.payload);
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'the packets that end with id % contradict each other', NEW.last_id
    USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON sendq.run
  FOR EACH ROW EXECUTE FUNCTION sendq.keep_run();

CREATE FUNCTION sendq.keep_letter() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.checksum := sendq.checksum_of(NEW.id, NULL, NEW.payload);
  RETURN NEW;
END $$;
CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON sendq.dead_letter
  FOR EACH ROW EXECUTE FUNCTION sendq.keep_letter();

CREATE FUNCTION sendq.remove_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM sendq.run WHERE queue = OLD.id;
  RETURN OLD;
END $$;
CREATE TRIGGER remove_runs AFTER DELETE ON sendq.queue
  FOR EACH ROW EXECUTE FUNCTION sendq.remove_runs();
`;

/** Version 7: whoever empties the table of queues by hand leaves no runs for the next ones. */
export const TRUNCATION: string = `
CREATE FUNCTION sendq.remove_all_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Not TRUNCATE, which cannot be where the same statement names both tables.
  DELETE FROM sendq.run;
  RETURN NULL;
END $$;
CREATE TRIGGER remove_all_runs AFTER TRUNCATE ON sendq.queue
  FOR EACH STATEMENT EXECUTE FUNCTION sendq.remove_all_runs();
`;

/**
 * Version 9: a lease says for how long its beats are good, so that others wait as long. Of a
 * holder that an older version knows, or that takes it while this waits, nobody can say it: it is
 * taken for the longest there may be.
 */
export const LEASE_TTL: string = `
ALTER TABLE sendq.lease ADD ttl_ms bigint NOT NULL DEFAULT 600000;
`;

/**
 * Version 11: packets expire by the database's clock. What was written by clocks of others does not
 * count as its last reading, and what none of them can have meant is taken back.
 */
export const OWN_TIME: string = `
-- At once, in the order of who stores: a commit under way would wait for this, and this for it.
LOCK TABLE sendq.queue, sendq.run IN ACCESS EXCLUSIVE MODE;
-- Counts and rows that contradict themselves are not what this is about.
ALTER TABLE sendq.queue DISABLE TRIGGER keep;
ALTER TABLE sendq.run DISABLE TRIGGER keep;
UPDATE sendq.queue SET
  written_at_ms = floor(date_part('epoch', clock_timestamp()) * 1000)::bigint,
  clock_offset_ms = CASE WHEN clock_offset_ms BETWEEN -34560000000 AND 34560000000
    THEN clock_offset_ms ELSE 0 END,
  oldest_ms = CASE WHEN oldest_ms BETWEEN 0 AND 9007199254740991 THEN oldest_ms END;
UPDATE sendq.run SET enqueued_at_ms = 0 WHERE enqueued_at_ms NOT BETWEEN 0 AND 9007199254740991;
ALTER TABLE sendq.queue ENABLE TRIGGER keep;
ALTER TABLE sendq.run ENABLE TRIGGER keep;
`;
