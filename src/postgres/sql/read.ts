/** What looks into a queue and changes nothing, and the lease. */

import { AS_OWNER, KEEP_TIME, SAME_CLOCK_MS } from "./shared.ts";

/** In the order of the tables. */
export const READ: string = `
CREATE FUNCTION sendq.open_queue(q text) RETURNS jsonb
LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
BEGIN
  PERFORM sendq.allow('sendq_producer');
  SELECT * INTO c FROM sendq.queue WHERE name = q;
  IF NOT FOUND THEN RAISE EXCEPTION 'there is no queue %', q USING ERRCODE = 'SQ001'; END IF;
  RETURN jsonb_build_object('id', c.id, 'version',
    (SELECT max(version) FROM sendq.migration), 'checksums', current_setting('data_checksums'));
END $$;

CREATE FUNCTION sendq.state(q text) RETURNS text
LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
BEGIN
  SELECT * INTO c FROM sendq.queue WHERE id = sendq.queue_id(q);
  RETURN sendq.state_of(c);
END $$;

CREATE FUNCTION sendq.version(q text) RETURNS bigint
LANGUAGE sql STABLE ${AS_OWNER} AS $$
  SELECT version FROM sendq.queue WHERE id = sendq.queue_id(q)
$$;

-- As many runs as hold so many bytes, roughly, up to one that is damaged; at least one. What is made
-- of a run comes behind the inner LIMIT: else, where rows are few enough to be sorted, that is done
-- with the bytes of all of them, in a file, for which a full disk has no room.
CREATE FUNCTION sendq.read(q text, after_id bigint, max_bytes bigint) RETURNS TABLE (
  last_id bigint, ends text, payload bytea, expires_at_ms bigint, enqueued_at_ms bigint,
  fault text, now_ms bigint
) LANGUAGE plpgsql STABLE ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
  first bigint;
  room bigint := max_bytes;
BEGIN
  PERFORM sendq.allow('sendq_sender');
  SELECT * INTO c FROM sendq.queue WHERE id = sendq.queue_id(q);
  now_ms := sendq.time_of(c);
  FOR first, last_id, ends, payload, expires_at_ms, enqueued_at_ms, fault IN
    SELECT r.first_id, r.last_id, array_to_string(r.ends, ','), r.payload, r.expires_at_ms, r.enqueued_at_ms,
      CASE WHEN r.checksum IS DISTINCT FROM sendq.checksum_of(r.last_id, r.ends, r.payload)
        THEN sendq.fault_of_run(ROW(r.*)::sendq.run) END
    FROM (
      SELECT * FROM sendq.run s WHERE s.queue = c.id AND s.last_id > greatest(after_id, c.removed_through)
      ORDER BY s.last_id LIMIT 1024
    ) r ORDER BY r.last_id
  LOOP
    RETURN NEXT;
    -- Of a run that begins before that id only a part counts: how much, nobody asks.
    IF first > after_id THEN room := room - length(payload); END IF;
    EXIT WHEN room <= 0 OR fault IS NOT NULL;
  END LOOP;
END $$;

-- The same for the sender, who is going to send it: a transaction with a number, behind which
-- nothing that it has read can be lost without it. Reserves ids, those that it reads among them.
CREATE FUNCTION sendq.hand_out(
  q text, reader uuid, call bigint, fence jsonb, after_id bigint, max_bytes bigint, reserve bigint
) RETURNS TABLE (
  last_id bigint, ends text, payload bytea, expires_at_ms bigint, fault text, now_ms bigint
)
LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
  known bigint;
BEGIN
  PERFORM sendq.allow('sendq_sender');
  SELECT * INTO c FROM sendq.queue WHERE id = sendq.queue_id(q);
  PERFORM sendq.holds(c, fence, true);
  SELECT coalesce(max(p.call), 0) INTO known FROM sendq.producer p
    WHERE p.queue = c.id AND p.id = reader;
  IF known NOT IN (hand_out.call - 1, hand_out.call) THEN
    RAISE EXCEPTION 'it knows % reads of this sender, and not %', known, hand_out.call - 1
      USING ERRCODE = 'SQ007';
  END IF;
  IF max_bytes > 0 THEN
    FOR last_id, ends, payload, expires_at_ms, fault, now_ms IN
      SELECT r.last_id, r.ends, r.payload, r.expires_at_ms, r.fault, r.now_ms
      FROM sendq.read(q, after_id, max_bytes) r
    LOOP
      IF fault IS NULL THEN reserve := greatest(reserve, last_id); END IF;
      RETURN NEXT;
    END LOOP;
  END IF;
  -- The same question may have come twice, over two connections, and the first one late.
  INSERT INTO sendq.producer AS p VALUES (c.id, reader, hand_out.call, '{}', now(), reserve)
    ON CONFLICT (queue, id) DO UPDATE SET call = greatest(p.call, excluded.call),
      called_at = excluded.called_at,
      reserved_through = greatest(p.reserved_through, excluded.reserved_through);
END $$;

-- What has expired; the first row says in how many milliseconds the next one does.
CREATE FUNCTION sendq.due(q text, after_id bigint, by_time boolean, max_rows integer)
RETURNS TABLE (first_id bigint, last_id bigint, bytes integer, next_in_ms bigint)
LANGUAGE plpgsql STABLE ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
  after bigint;
  now_ms bigint;
BEGIN
  PERFORM sendq.allow('sendq_sender');
  SELECT * INTO c FROM sendq.queue WHERE id = sendq.queue_id(q);
  now_ms := sendq.time_of(c);
  after := greatest(after_id, c.removed_through);
  SELECT min(r.expires_at_ms) - now_ms INTO next_in_ms FROM sendq.run r
    WHERE r.queue = c.id AND r.last_id > after AND r.expires_at_ms > now_ms;
  RETURN NEXT;
  RETURN QUERY SELECT greatest(after + 1, r.first_id), r.last_id, length(r.payload), NULL::bigint
    FROM sendq.run r
    WHERE r.queue = c.id AND r.last_id > after AND r.expires_at_ms <= now_ms
    ORDER BY CASE WHEN by_time THEN r.expires_at_ms ELSE r.last_id END, r.last_id LIMIT max_rows;
END $$;

CREATE FUNCTION sendq.dead_letters(q text, after_id bigint, max_bytes bigint)
RETURNS SETOF sendq.dead_letter
LANGUAGE plpgsql STABLE ${AS_OWNER} AS $$
DECLARE
  d sendq.dead_letter;
  room bigint := max_bytes;
  first boolean := true;
BEGIN
  PERFORM sendq.allow('sendq_operator');
  FOR d IN SELECT * FROM sendq.dead_letter l
    WHERE l.queue = sendq.queue_id(q) AND l.id > after_id ORDER BY l.id
  LOOP
    room := room - length(d.payload);
    EXIT WHEN room < 0 AND NOT first;
    first := false;
    RETURN NEXT d;
  END LOOP;
END $$;

-- Its answers will not be asked for any more.
CREATE FUNCTION sendq.forget(q text, producer uuid) RETURNS void
LANGUAGE sql ${AS_OWNER} AS $$
  DELETE FROM sendq.producer WHERE queue = sendq.queue_id(q)
    AND (id = forget.producer OR called_at < now() - interval '30 days')
$$;

-- Somebody may still ask for its answers.
CREATE FUNCTION sendq.keep(q text, producers uuid[]) RETURNS void
LANGUAGE sql ${AS_OWNER} AS $$
  UPDATE sendq.producer SET called_at = now()
    WHERE queue = sendq.queue_id(q) AND id = ANY (producers)
$$;

-- Wakes the sender. In a transaction of its own: one that notifies keeps all others of this
-- database from committing until it is on the standbys.
CREATE FUNCTION sendq.ring(q text) RETURNS void
LANGUAGE plpgsql ${AS_OWNER} AS $$
BEGIN
  -- For this transaction alone: nobody has to wait until a ring is on a disk.
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM pg_notify('sendq_' || sendq.queue_id(q), '');
END $$;

CREATE FUNCTION sendq.lease_look(q text)
RETURNS TABLE (
  epoch bigint, tenure uuid, beat bigint, holder text, ttl_ms bigint, notice text
) LANGUAGE sql STABLE ${AS_OWNER} AS $$
  SELECT epoch, tenure, beat, holder, ttl_ms, notice FROM sendq.lease WHERE queue = sendq.queue_id(q)
$$;

-- Who sends, and what becomes of commits: for people. Waits for nobody.
CREATE FUNCTION sendq.health(q text, durability text) RETURNS jsonb
LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  l sendq.lease;
BEGIN
  PERFORM sendq.allow('sendq_producer');
  SELECT * INTO l FROM sendq.lease WHERE queue = sendq.queue_id(q);
  RETURN jsonb_build_object(
    'holder', l.holder, 'epoch', l.epoch, 'beat', l.beat, 'ttlMs', l.ttl_ms,
    'beatAgeMs', greatest(0, round(extract(epoch FROM clock_timestamp() - l.beat_at) * 1000)),
    'weakness', sendq.weakness(durability),
    'waitsFor', current_setting('synchronous_standby_names'),
    'commit', current_setting('synchronous_commit'),
    -- The right of the functions' owner: without it the view has rows, and nothing in them.
    'maySee', pg_has_role('pg_read_all_stats', 'USAGE'),
    'standbys', (
      SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', r.application_name, 'state', r.state, 'sync', r.sync_state,
        'lagBytes', greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), r.flush_lsn)),
        'lagMs', round(extract(epoch FROM r.flush_lag) * 1000)
      ) ORDER BY r.application_name, r.pid), '[]')
      FROM pg_stat_replication r WHERE r.state IN ('startup', 'catchup', 'streaming')
    )
  );
END $$;

-- Returns up to which id something was reserved. Whoever calls it has locked the queue.
CREATE FUNCTION sendq.end_reservations(queue_id integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  reserved bigint;
BEGIN
  SELECT coalesce(max(p.reserved_through), 0) INTO reserved FROM sendq.producer p
    WHERE p.queue = queue_id;
  UPDATE sendq.producer SET reserved_through = 0 WHERE queue = queue_id AND reserved_through > 0;
  RETURN reserved;
END $$;

-- Takes the lease, if it is still as it was seen. No clock of the database decides.
CREATE FUNCTION sendq.lease_take(
  q text, seen_epoch bigint, seen_tenure uuid, seen_beat bigint, who text, drawn uuid,
  good_for_ms bigint, durability text
) RETURNS jsonb LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  before sendq.lease;
  reserved bigint;
BEGIN
  PERFORM sendq.demand(durability);
  PERFORM sendq.allow('sendq_sender');
  SELECT * INTO before FROM sendq.lease WHERE queue = sendq.queue_id(q) FOR UPDATE;
  IF before.epoch <> seen_epoch OR before.beat <> seen_beat
    OR before.tenure IS DISTINCT FROM seen_tenure THEN
    RETURN NULL;
  END IF;
  UPDATE sendq.lease SET epoch = epoch + 1, tenure = drawn, beat = beat + 1,
    beat_at = clock_timestamp(), holder = who, ttl_ms = good_for_ms, notice = ''
    WHERE queue = before.queue;
  -- Behind every commit of the sender before: from here on its removals are refused.
  PERFORM FROM sendq.queue WHERE id = before.queue FOR UPDATE;
  reserved := sendq.end_reservations(before.queue);
  -- What it had reserved it may have sent.
  UPDATE sendq.queue SET epoch = before.epoch + 1, tenure = drawn, version = version + 1,
    sent_through = greatest(sent_through, least(last_id, reserved))
    WHERE id = before.queue;
  RETURN jsonb_build_object('epoch', before.epoch + 1, 'beat', before.beat + 1);
END $$;

-- Counts the beat up. Says how many beats there are; -1: another one has taken over; -2: the
-- database has gone back. Says with each beat for how long it is good.
CREATE FUNCTION sendq.lease_beat(
  q text, held_epoch bigint, held_tenure uuid, answered_beat bigint, good_for_ms bigint,
  words text, durability text
) RETURNS bigint LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  l sendq.lease;
  c sendq.queue;
  wall bigint;
BEGIN
  PERFORM sendq.demand(durability);
  PERFORM sendq.allow('sendq_sender');
  SELECT * INTO l FROM sendq.lease WHERE queue = sendq.queue_id(q) FOR UPDATE;
  IF l.tenure IS DISTINCT FROM held_tenure THEN
    RETURN CASE WHEN l.epoch > held_epoch THEN -1 ELSE -2 END;
  END IF;
  IF l.beat < answered_beat THEN RETURN -2; END IF;
  IF l.holder IS NULL THEN RETURN -1; END IF;
  UPDATE sendq.lease SET beat = l.beat + 1, beat_at = clock_timestamp(), ttl_ms = good_for_ms,
    notice = words
    WHERE queue = l.queue;
  -- Where nobody changes anything, nobody else notes that the clock was set: time would stand still.
  SELECT * INTO c FROM sendq.queue WHERE id = l.queue;
  IF abs(sendq.time_of(c) - sendq.now_ms() - c.clock_offset_ms) > ${SAME_CLOCK_MS} THEN
    SELECT * INTO c FROM sendq.queue WHERE id = l.queue FOR UPDATE;
${KEEP_TIME}
    UPDATE sendq.queue SET written_at_ms = c.written_at_ms, clock_offset_ms = c.clock_offset_ms
      WHERE id = c.id;
  END IF;
  RETURN l.beat + 1;
END $$;

-- Gives it up, and says up to which id something was sent: nothing is reserved any more.
CREATE FUNCTION sendq.lease_leave(q text, held_tenure uuid, sent bigint) RETURNS boolean
LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  left_queue integer;
BEGIN
  PERFORM sendq.allow('sendq_sender');
  UPDATE sendq.lease SET beat = beat + 1, holder = NULL, notice = ''
    WHERE queue = sendq.queue_id(q) AND tenure = held_tenure RETURNING queue INTO left_queue;
  IF left_queue IS NULL THEN RETURN false; END IF;
  UPDATE sendq.queue SET sent_through = greatest(sent_through, least(sent, last_id)),
    version = version + 1
    WHERE id = left_queue;
  PERFORM sendq.end_reservations(left_queue);
  RETURN true;
END $$;

CREATE FUNCTION sendq.create_queue(q text) RETURNS void
LANGUAGE plpgsql ${AS_OWNER} AS $$
BEGIN
  PERFORM sendq.allow('sendq_operator');
  INSERT INTO sendq.queue (name) VALUES (q) ON CONFLICT (name) DO NOTHING;
  INSERT INTO sendq.lease (queue) VALUES (sendq.queue_id(q)) ON CONFLICT (queue) DO NOTHING;
END $$;

-- Who may do what is said by sendq.allow, in words that name the role that is missing.
GRANT EXECUTE ON FUNCTION sendq.open_queue, sendq.demand, sendq.weakness, sendq.state,
  sendq.version, sendq.health, sendq.commit, sendq.void, sendq.forget, sendq.keep, sendq.ring,
  sendq.edit, sendq.read, sendq.hand_out, sendq.due, sendq.dead_letters, sendq.lease_look,
  sendq.lease_take, sendq.lease_beat, sendq.lease_leave, sendq.create_queue TO sendq_producer;
`;
