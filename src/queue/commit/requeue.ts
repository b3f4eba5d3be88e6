import type { EditResult } from "../store/contract.ts";
import type { IdRange, PacketCount } from "../store/types.ts";

/** Dead letters that were put back. */
export interface Requeued extends PacketCount {
  /** The first and the last of their new ids; `undefined`: there were none. */
  readonly ids: IdRange | undefined;
  /** Damaged ones in the range, which stay where they are. */
  readonly damagedPackets: number;
}

/**
 * Puts dead letters back, as many at a time as one transaction should move.
 *
 * @param range Which.
 * @param requeue Puts back the first of a range.
 */
export async function requeueInSteps(
  range: IdRange,
  requeue: (range: IdRange) => Promise<EditResult>,
): Promise<Requeued> {
  let packets = 0, bytes = 0;
  let ids: IdRange | undefined;
  let rest = range;
  for (;;) {
    const moved = await requeue(rest);
    // The last step has gone through all of what is left.
    if (moved.ids === undefined) {
      return { packets, bytes, ids, damagedPackets: moved.damagedPackets };
    }
    // Those that expire again meanwhile have higher ids than any of now.
    if (ids === undefined) {
      rest = { firstId: range.firstId, lastId: Math.min(range.lastId, moved.ids.firstId - 1) };
    }
    ids = { firstId: ids?.firstId ?? moved.ids.firstId, lastId: moved.ids.lastId };
    packets += moved.packets;
    bytes += moved.bytes;
  }
}
