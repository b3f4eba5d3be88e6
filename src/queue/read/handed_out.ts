import { lastIdOf } from "../../base/packet_batch.ts";
import type { PacketBatch } from "../../base/ports.ts";
import type { HandedOutCount } from "../store/contract.ts";
import type { PacketCount } from "../store/types.ts";

/** What is remembered of a batch: not its bytes. */
type Handed = Pick<PacketBatch, "firstId" | "ends">;

/**
 * What the sender was given and has not removed yet. A removal is held against it: a
 * damaged file may find more to remove than it has given out, or less.
 */
export class HandedOut {
  /** In the order of their ids. */
  #batches: Handed[] = [];
  /** Everything above it and up to {@linkcode HandedOut.throughId} was given out, if it was there. */
  #afterId = 0;
  #throughId = 0;

  /** The highest id that was given out, or above which everything was taken back. */
  get throughId(): number {
    return this.#throughId;
  }

  /** Batches were given out; what lies above `afterId` was taken back before. */
  give(afterId: number, batches: readonly PacketBatch[]): void {
    this.takeBack(afterId);
    if (this.#throughId < afterId || afterId < this.#afterId) {
      this.#batches = [];
      this.#afterId = afterId;
    }
    this.#throughId = afterId;
    for (const batch of batches) {
      this.#batches.push({ firstId: batch.firstId, ends: batch.ends });
      this.#throughId = lastIdOf(batch);
    }
  }

  /** Nothing above an id counts as given out any more. */
  takeBack(afterId: number): void {
    this.#throughId = Math.min(this.#throughId, afterId);
    for (let last = this.#batches.at(-1); last !== undefined; last = this.#batches.at(-1)) {
      if (last.firstId + last.ends.length - 1 <= afterId) return;
      this.#batches.pop();
      if (last.firstId <= afterId) {
        this.#batches.push({
          firstId: last.firstId,
          ends: last.ends.subarray(0, afterId + 1 - last.firstId),
        });
      }
    }
  }

  /** Forgets what was removed. */
  removeThrough(id: number): void {
    let gone = 0;
    for (const { firstId, ends } of this.#batches) {
      if (firstId + ends.length - 1 > id) break;
      gone++;
    }
    if (gone > 0) this.#batches = this.#batches.slice(gone);
  }

  /**
   * What was given out above one id and up to another.
   *
   * @param enough Ends sooner, behind the batch with which there is so much of both.
   * @returns `undefined`: not all of it was given out here.
   */
  count(afterId: number, throughId: number, enough: PacketCount): HandedOutCount | undefined {
    if (afterId < this.#afterId || throughId > this.#throughId) return undefined;
    let packets = 0, bytes = 0;
    for (const { firstId, ends } of this.#batches) {
      if (firstId > throughId) break;
      if (bytes >= enough.bytes && packets >= enough.packets) {
        return { afterId, throughId: firstId - 1, packets, bytes };
      }
      const from = Math.max(0, afterId + 1 - firstId);
      const to = Math.min(ends.length, throughId + 1 - firstId);
      if (to <= from) continue;
      packets += to - from;
      bytes += (ends[to - 1] ?? 0) - (from === 0 ? 0 : ends[from - 1] ?? 0);
    }
    return { afterId, throughId, packets, bytes };
  }
}
