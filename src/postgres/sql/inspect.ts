/**
 * What an operator looks at. It is read with one snapshot a call: packets, and the counts
 * that they are judged by, are of one moment.
 */

import { AS_OWNER } from "./shared.ts";

/** Pages of packets and of dead letters, and the check of all of it. */
export const INSPECT: string = `
-- Rows that follow each other: as many as are wanted, or as have so many bytes; at least one.
CREATE FUNCTION sendq.inspect_packets(
  q text, after_id bigint, with_payload boolean, checks boolean, max_rows integer,
  max_bytes bigint
) RETURNS TABLE (
  last_id bigint, ends text, payload bytea, is_sound boolean, enqueued_at_ms bigint,
  expires_at_ms bigint, removed_through bigint, sent_through bigint, now_ms bigint
) LANGUAGE plpgsql STABLE ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
  room bigint := max_bytes;
BEGIN
  PERFORM sendq.allow('sendq_operator');
  SELECT * INTO c FROM sendq.queue WHERE id = sendq.queue_id(q);
  removed_through := c.removed_through;
  sent_through := c.sent_through;
  now_ms := sendq.time_of(c);
  FOR last_id, ends, payload, is_sound, enqueued_at_ms, expires_at_ms IN
    SELECT r.last_id, array_to_string(r.ends, ','), CASE WHEN with_payload THEN r.payload END,
      NOT checks OR r.checksum = sendq.checksum_of(r.last_id, r.ends, r.payload),
      r.enqueued_at_ms, r.expires_at_ms
    FROM sendq.run r WHERE r.queue = c.id AND r.last_id > greatest(after_id, c.removed_through)
    ORDER BY r.last_id LIMIT max_rows
  LOOP
    RETURN NEXT;
    room := room - coalesce(length(payload), 0);
    EXIT WHEN room <= 0;
  END LOOP;
END $$;

CREATE FUNCTION sendq.inspect_letters(
  q text, after_id bigint, payload_bytes bigint, max_rows integer, max_bytes bigint
) RETURNS TABLE (
  id bigint, enqueued_at_ms bigint, died_at_ms bigint, reason text, sent boolean,
  attempts integer, words text, bytes integer, payload bytea
) LANGUAGE plpgsql STABLE ${AS_OWNER} AS $$
DECLARE
  room bigint := max_bytes;
BEGIN
  PERFORM sendq.allow('sendq_operator');
  FOR id, enqueued_at_ms, died_at_ms, reason, sent, attempts, words, bytes, payload IN
    SELECT d.id, d.enqueued_at_ms, d.died_at_ms,
      -- Whatever it died of: what is there now is not what was stored.
      CASE WHEN payload_bytes = 0 OR d.checksum = sendq.checksum_of(d.id, NULL, d.payload)
        THEN d.reason ELSE 'damaged' END,
      d.sent, d.attempts, d.words, length(d.payload),
      substring(d.payload FOR least(payload_bytes, length(d.payload))::integer)
    FROM sendq.dead_letter d WHERE d.queue = sendq.queue_id(q) AND d.id > after_id
    ORDER BY d.id LIMIT max_rows
  LOOP
    RETURN NEXT;
    room := room - length(payload);
    EXIT WHEN room <= 0;
  END LOOP;
END $$;

CREATE FUNCTION sendq.count_letters(
  q text, after_id bigint, to_id bigint, before_ms bigint, OUT packets bigint, OUT bytes bigint
) LANGUAGE plpgsql STABLE ${AS_OWNER} AS $$
BEGIN
  PERFORM sendq.allow('sendq_operator');
  SELECT count(*), coalesce(sum(length(d.payload)), 0) INTO packets, bytes FROM sendq.dead_letter d
    WHERE d.queue = sendq.queue_id(q) AND d.id > after_id AND d.id <= to_id
      AND d.died_at_ms < before_ms;
END $$;

-- What is wrong, in words: in each row, between rows, and between rows and counts. What
-- cannot be read ends the look at itself alone.
CREATE FUNCTION sendq.check_queue(q text) RETURNS TABLE (kind text, words text)
LANGUAGE plpgsql STABLE ${AS_OWNER} AS $$
DECLARE
  c sendq.queue;
  r sendq.run;
  d sendq.dead_letter;
  row_id bigint;
  before bigint := 0;
  ids text;
  gone integer;
  is_whole boolean := true;
  packets bigint := 0;
  bytes bigint := 0;
  said record;
BEGIN
  PERFORM sendq.allow('sendq_operator');
  SELECT * INTO c FROM sendq.queue WHERE id = sendq.queue_id(q);

  BEGIN
    FOR row_id IN SELECT last_id FROM sendq.run WHERE queue = c.id ORDER BY last_id LOOP
      kind := 'packets';
      BEGIN
        SELECT * INTO STRICT r FROM sendq.run WHERE queue = c.id AND last_id = row_id;
        words := 'the packets that end with id ' || row_id || ' are damaged: '
          || sendq.fault_of_run(r);
      EXCEPTION WHEN data_corrupted OR index_corrupted THEN
        is_whole := false;
        kind := 'pages';
        words := 'the packets that end with id ' || row_id || ' cannot be read: ' || SQLERRM;
      END;
      IF words IS NOT NULL THEN RETURN NEXT; END IF;
      CONTINUE WHEN kind = 'pages';
      ids := format('ids %s to %s', r.first_id, row_id);
      IF r.first_id <= before THEN
        words := format('ids %s to %s are there twice', r.first_id, least(before, row_id));
        RETURN NEXT;
      END IF;
      IF row_id <= c.removed_through THEN
        words := ids || ' were removed and are still there';
        RETURN NEXT;
      END IF;
      IF r.enqueued_at_ms < 0 THEN
        words := ids || ' have no time';
        RETURN NEXT;
      END IF;
      IF r.expires_at_ms < 0 THEN
        words := format('the packets that end with id %s expire at %s', row_id, r.expires_at_ms);
        RETURN NEXT;
      END IF;
      gone := least(cardinality(r.ends), greatest(0, c.removed_through + 1 - r.first_id));
      packets := packets + cardinality(r.ends) - gone;
      bytes := bytes + length(r.payload) - coalesce(r.ends[gone], 0);
      before := row_id;
    END LOOP;
  EXCEPTION WHEN data_corrupted OR index_corrupted THEN
    is_whole := false;
    kind := 'pages';
    words := 'packets behind id ' || before || ' cannot be read: ' || SQLERRM;
    RETURN NEXT;
  END;
  kind := 'counts';
  IF before > c.last_id THEN
    words := format('there is id %s, and the highest id is %s', before, c.last_id);
    RETURN NEXT;
  END IF;
  FOR said IN SELECT * FROM (VALUES
    ('packets', c.packets, packets), ('bytes of packets', c.bytes, bytes)
  ) AS v (what, counted, there) WHERE is_whole AND counted <> there LOOP
    words := format('the queue counts %s %s, there are %s', said.counted, said.what, said.there);
    RETURN NEXT;
  END LOOP;

  is_whole := true;
  before := 0;
  packets := 0;
  bytes := 0;
  BEGIN
    FOR row_id IN SELECT id FROM sendq.dead_letter WHERE queue = c.id ORDER BY id LOOP
      kind := 'dead-letters';
      BEGIN
        SELECT * INTO STRICT d FROM sendq.dead_letter WHERE queue = c.id AND id = row_id;
        words := 'dead letter ' || row_id || ' is ' || sendq.fault_of_letter(d);
      EXCEPTION WHEN data_corrupted OR index_corrupted THEN
        is_whole := false;
        kind := 'pages';
        words := 'dead letter ' || row_id || ' cannot be read: ' || SQLERRM;
      END;
      IF words IS NOT NULL THEN RETURN NEXT; END IF;
      CONTINUE WHEN kind = 'pages';
      IF row_id > c.removed_through AND row_id BETWEEN (
        SELECT first_id FROM sendq.run WHERE queue = c.id AND last_id >= row_id
        ORDER BY last_id LIMIT 1
      ) AND c.last_id THEN
        words := format('id %s is in the queue and a dead letter', row_id);
        RETURN NEXT;
      END IF;
      packets := packets + 1;
      bytes := bytes + length(d.payload);
      before := row_id;
    END LOOP;
  EXCEPTION WHEN data_corrupted OR index_corrupted THEN
    is_whole := false;
    kind := 'pages';
    words := 'dead letters behind id ' || before || ' cannot be read: ' || SQLERRM;
    RETURN NEXT;
  END;
  kind := 'counts';
  IF before > c.last_id THEN
    words := format('there is dead letter %s, and the highest id is %s', before, c.last_id);
    RETURN NEXT;
  END IF;
  FOR said IN SELECT * FROM (VALUES
    ('dead letters', c.dead_packets, packets), ('bytes of dead letters', c.dead_bytes, bytes)
  ) AS v (what, counted, there) WHERE is_whole AND counted <> there LOOP
    words := format('the queue counts %s %s, there are %s', said.counted, said.what, said.there);
    RETURN NEXT;
  END LOOP;
  IF packets > c.expired_packets + c.gave_up_packets + c.damaged_packets + c.refused_packets THEN
    words := format('there are %s dead letters, and ever were %s', packets,
      c.expired_packets + c.gave_up_packets + c.damaged_packets + c.refused_packets);
    RETURN NEXT;
  END IF;
END $$;

GRANT EXECUTE ON FUNCTION sendq.inspect_packets, sendq.inspect_letters, sendq.count_letters,
  sendq.check_queue TO sendq_producer;
`;
