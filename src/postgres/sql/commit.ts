/** Storing and removing, in one transaction. */

import { answerOnce, AS_OWNER, KEEP_TIME, lockQueue } from "./shared.ts";

/** The function that a `CommitRequest` becomes. */
export const COMMIT: string = `
CREATE FUNCTION sendq.commit(
  q text, producer uuid, call bigint,
  queue_id integer, durability text, fence jsonb, sent bigint,
  max_dead_packets bigint, max_dead_bytes bigint,
  through bigint, handed jsonb, reserve bigint,
  max_packets bigint, max_bytes bigint, overflow text,
  unit_packets integer[], unit_bytes integer[],
  run_packets integer[], run_bytes integer[], run_left bigint[], ends integer[], payload bytea
) RETURNS jsonb LANGUAGE plpgsql ${AS_OWNER} AS $$
DECLARE
  -- An expression is evaluated for less than a statement is run; each of these raises, or is true.
  may boolean := sendq.demand(durability) AND sendq.allow('sendq_producer');
  c sendq.queue;
  wall bigint;
  before sendq.queue;
  had record;
  gone record;
  holds boolean := false;
  dropped_packets bigint := 0;
  dropped_bytes bigint := 0;
  dropped_through bigint := 0;
  first bigint;
  next_end integer := 1;
  next_byte integer := 1;
BEGIN
  -- It also makes a repeated question wait for a standby.
${lockQueue(" AND id = queue_id")}${answerOnce("commit")}
  before := c;

  IF fence IS NOT NULL OR through > 0 THEN
    holds := sendq.holds(c, fence, through > 0);
    IF holds THEN
      may := sendq.allow('sendq_sender');
      c.sent_through := greatest(c.sent_through, least(sent, c.last_id));
    END IF;
  END IF;
${KEEP_TIME}
  IF through > 0 THEN
    through := least(through, c.last_id);
    SELECT * INTO gone FROM sendq.remove_through(c.id, c.removed_through, through);
    -- What was given to the sender is what is removed, or nothing is.
    IF (handed->>'afterId')::bigint = c.removed_through
      AND ((handed->>'packets')::bigint, (handed->>'bytes')::bigint)
        IS DISTINCT FROM (gone.packets, gone.bytes)
    THEN
      RAISE EXCEPTION '% packets of % bytes up to id % were given to the sender, and it finds '
        '% of % to remove', handed->>'packets', handed->>'bytes', through, gone.packets, gone.bytes
        USING ERRCODE = 'SQ006';
    END IF;
    c.removed_through := greatest(c.removed_through, through);
    c.packets := c.packets - gone.packets;
    c.bytes := c.bytes - gone.bytes;
    c.oldest_ms := NULL;
  END IF;

  IF c.packets + cardinality(ends) > max_packets OR c.bytes + length(payload) > max_bytes THEN
    DECLARE
      -- Old packets give way, so that only the new ones themselves count.
      gives boolean := overflow = 'drop-oldest';
      used_packets bigint := CASE WHEN gives THEN 0 ELSE c.packets END;
      used_bytes bigint := CASE WHEN gives THEN 0 ELSE c.bytes END;
      met text;
      refused text[] := '{}';
    BEGIN
      FOR i IN 1 .. cardinality(unit_packets) LOOP
        -- First come, first served: nobody passes one who waits.
        IF met IS NULL OR overflow <> 'wait' THEN
          met := CASE
            WHEN used_packets + unit_packets[i] > max_packets THEN 'maxPackets'
            WHEN used_bytes + unit_bytes[i] > max_bytes THEN 'maxBytes'
          END;
        END IF;
        IF met IS NULL THEN
          used_packets := used_packets + unit_packets[i];
          used_bytes := used_bytes + unit_bytes[i];
        ELSE
          refused := refused || ('[' || i - 1 || ',"' || met || '"]');
        END IF;
      END LOOP;
      IF cardinality(refused) > 0 THEN
        -- Nothing has happened: it is asked again without those.
        RAISE EXCEPTION 'no room' USING ERRCODE = 'SQ005',
          DETAIL = '[' || array_to_string(refused, ',') || ']';
      END IF;
      IF gives AND c.packets > 0 THEN
        may := sendq.allow('sendq_sender');
        dropped_through := sendq.id_to_drop(
          c.id, c.removed_through, c.packets + cardinality(ends) - max_packets,
          c.bytes + length(payload) - max_bytes
        );
        SELECT * INTO gone FROM sendq.remove_through(c.id, c.removed_through, dropped_through);
        IF gone.packets = 0 THEN
          RAISE EXCEPTION 'it counts % packets, and none is found', c.packets
            USING ERRCODE = 'SQ006';
        END IF;
        c.removed_through := dropped_through;
        c.packets := c.packets - gone.packets;
        c.bytes := c.bytes - gone.bytes;
        c.oldest_ms := NULL;
        dropped_packets := gone.packets;
        dropped_bytes := gone.bytes;
      END IF;
    END;
  END IF;

  first := c.last_id + 1;
  FOR i IN 1 .. cardinality(run_packets) LOOP
    -- Whoever may enqueue may ask for it by hand: what contradicts itself would stop the sender.
    IF ends[next_end + run_packets[i] - 1] = run_bytes[i] AND (run_packets[i] = 1
      OR sendq.ascends(ends[next_end : next_end + run_packets[i] - 1]))
    THEN
      INSERT INTO sendq.run VALUES (
        c.id, c.last_id + run_packets[i], c.last_id + 1, wall,
        CASE WHEN run_left[i] > 0 THEN sendq.expiry_of(c, run_left[i]) END,
        ends[next_end : next_end + run_packets[i] - 1],
        substring(payload FROM next_byte FOR run_bytes[i])
      );
    ELSE
      RAISE EXCEPTION 'the runs are not these packets' USING ERRCODE = 'SQ006';
    END IF;
    next_end := next_end + run_packets[i];
    next_byte := next_byte + run_bytes[i];
    c.last_id := c.last_id + run_packets[i];
  END LOOP;
  c.packets := c.packets + cardinality(ends);
  c.bytes := c.bytes + length(payload);
  c.stored_bytes := c.stored_bytes + length(payload);
  IF next_end - 1 <> cardinality(ends) OR next_byte - 1 <> length(payload) THEN
    RAISE EXCEPTION 'the runs are not these packets' USING ERRCODE = 'SQ006';
  END IF;

  -- Who only enqueues has no say in how many dead letters are kept: they are packets that
  -- others were promised.
  IF (c.dead_packets > max_dead_packets OR c.dead_bytes > max_dead_bytes)
    AND sendq.may('sendq_sender')
  THEN
    SELECT * INTO gone FROM sendq.bound_dead(
      c.id, c.dead_packets - max_dead_packets, c.dead_bytes - max_dead_bytes
    );
    c.dead_packets := c.dead_packets - gone.packets;
    c.dead_bytes := c.dead_bytes - gone.bytes;
    dropped_packets := dropped_packets + gone.packets;
    dropped_bytes := dropped_bytes + gone.bytes;
  END IF;
  IF dropped_packets > 0 THEN
    c.dropped_packets := c.dropped_packets + dropped_packets;
    c.dropped_bytes := c.dropped_bytes + dropped_bytes;
  END IF;

  IF cardinality(ends) = 0
    AND (c.removed_through, c.sent_through, c.clock_offset_ms, c.dropped_packets)
    = (before.removed_through, before.sent_through, before.clock_offset_ms, before.dropped_packets)
  THEN
    RETURN jsonb_build_object('first', first, 'droppedPackets', 0, 'counted', false,
      'state', sendq.state_of(before));
  END IF;
  reserve := CASE WHEN holds THEN least(reserve, c.last_id) ELSE 0 END;
  RETURN sendq.finish(c, producer, call, jsonb_build_object(
    'first', first, 'reservedThrough', reserve, 'droppedPackets', dropped_packets,
    'droppedBytes', dropped_bytes, 'droppedThrough', dropped_through
  ), reserve);
END $$;
`;
